"""`make bench NAME=gateway`: what the doors take, every answer after a durable write.

For each kind of message: as fast as one process answers (closed loop), and how long an answer
takes at half of that (open loop: its time counts from when the message was due). Once with Kafka,
and once with Kafka away, when the write is the outbox's. Gateway, sender and Kafka share the
machine: the figures say what each of them and all else used, how late the sender itself was, and
how long a sync of the disk takes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import process_time
from timeit import timeit
from typing import Any

import hl7  # type: ignore[import-untyped]  # it has no types
import numpy as np
import uvloop
from report import line
from talking import ENTRIES, Account, Kind, converse, kinds, mllp

from services.gateway.hl7v2.segments import parted
from services.gateway.hl7v2.translation import bundle as translated
from services.gateway.hl7v2.translation import header_of
from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.kafka.admin import create_topic

TARGETS = {"observation": 3000, "bundle": 200, "hl7v2": 3000}
"""Messages a second and process; a Bundle has 100 Observations."""
P99_MS = 50.0
DEADLINE_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")
WARM_S = 10.0
"""Each kind talks so long before it is measured with Kafka: a young broker compiles itself."""


def half(kind: Kind, account: Account, given: argparse.Namespace) -> dict[str, Any]:
    """Find the capacity, then the time of an answer at half of it."""
    talk = partial(converse, kind, given.connections, given.seconds, account=account)
    full = uvloop.run(talk(rate=0))
    return {"full": full, "half": uvloop.run(talk(rate=full["per_s"] / 2))}


def accounts(pids: Mapping[str, int]) -> Account:
    """Give the account of processes, of all else on the machine, and of doing nothing."""

    def account() -> dict[str, float]:
        used = {name: cpu_s(pid) for name, pid in pids.items()}
        ticks = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        idle, all_of_it = (ticks[3] + ticks[4]) / TICKS, sum(ticks) / TICKS
        return {**used, "others": all_of_it - idle - sum(used.values()), "idle": idle}

    return account


def disk_ms(folder: Path) -> dict[str, float]:
    """Append 4 KiB and wait for the disk, as the outbox does: what a sync takes here."""
    file, took = os.open(folder / "disk", os.O_CREAT | os.O_WRONLY, 0o600), list[float]()
    for _ in range(200):
        began = time.perf_counter()
        os.write(file, b"x" * 4096)
        os.fdatasync(file)
        took.append((time.perf_counter() - began) * 1000)
    os.close(file)
    p50, p99 = np.percentile(took, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


@contextmanager
def gateway(folder: Path, bootstrap: str) -> Iterator[tuple[int, int, int]]:
    """Run one gateway: gives its ports, of HTTP and of MLLP, and its process."""
    for name in ("pseudonym", "payload"):
        (folder / name).write_text("5a" * 32)
        (folder / name).chmod(0o600)
    ports = free_port(), free_port()
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "VIGIL_GATEWAY_PORT": str(ports[0]),
        "VIGIL_MLLP_PORT": str(ports[1]),
        "VIGIL_PSEUDONYM_KEY_FILE": str(folder / "pseudonym"),
        "VIGIL_PAYLOAD_KEY_FILE": str(folder / "payload"),
        "VIGIL_OUTBOX_FOLDER": str(folder / "outbox"),
        "VIGIL_OUTBOX_MAX_BYTES": str(8 << 30),
        "VIGIL_SCHEMAS": str(REPO / "schemas"),
    }
    process = subprocess.Popen([sys.executable, "-m", "services.gateway"], env=environment)
    try:
        await_zero(ports[0], kept=False)
        yield *ports, process.pid
    finally:
        process.terminate()
        process.wait()


def await_zero(port: int, *, kept: bool, seconds: float = DEADLINE_S) -> float:
    """Wait until the gateway is ready, and (kept) until its outbox is empty; say how long."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                lines = answer.read().decode().splitlines()
            if not kept or any(
                text.startswith("vigil_outbox_records") and text.endswith(" 0.0") for text in lines
            ):
                return time.monotonic() - began
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the gateway did not come")


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measured(
    ports: tuple[int, int], account: Account, given: argparse.Namespace
) -> dict[str, Any]:
    """Measure every kind that is asked for."""
    found = {}
    for name, kind in kinds(*ports).items():
        if name in given.kinds:
            found[name] = half(kind, account, given)
            found[name]["kept"] = round(
                records(ports[0])
            )  # on the disk: none while Kafka is there
            for load, said in found[name].items():
                sys.stderr.write(f"{name} {load}: {said}\n")
    return found


def reading_us() -> dict[str, float]:
    """Processor time to parse the message with the `hl7` package, and to read and translate it."""
    message = mllp(0).message.strip(b"\x0b\x1c\r")
    text = message.decode()

    def ours() -> None:
        segments = parted(message)
        translated(header_of(segments[0]), segments, None)

    return {
        "hl7_parse": round(
            timeit(lambda: hl7.parse(text), timer=process_time, number=500) / 500 * 1e6
        ),
        "read_and_translated": round(timeit(ours, timer=process_time, number=500) / 500 * 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--warm", type=float, default=WARM_S)
    parser.add_argument("--kinds", nargs="*", default=list(TARGETS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        broker = Broker(folder / "kafka", free_port(), cache=here().cache).start()
        try:
            create_topic(
                {"bootstrap.servers": broker.bootstrap},
                "fhir.raw.v1",
                partitions=4,
                config={"max.message.bytes": "2097152"},
            )
            with gateway(folder, broker.bootstrap) as (port, mllp_port, pid):
                await_zero(port, kept=True)
                ours = {"gateway": pid, "sender": os.getpid()}
                account = accounts({**ours, "kafka": broker.pid})
                for kind in kinds(port, mllp_port).values():
                    uvloop.run(
                        converse(kind, given.connections, given.warm, rate=0, account=account)
                    )
                with_kafka = measured((port, mllp_port), account, given)
                disk = disk_ms(folder)
                broker.kill()
                time.sleep(8)  # until it is noticed: what is on its way is turned away
                away = measured((port, mllp_port), accounts(ours), given)
                kept = records(port)
                broker.start()
                drained_s = await_zero(port, kept=True, seconds=600)
        finally:
            broker.stop()
    figures = {
        "reading_us": reading_us(),
        "sync_ms": disk,
        "kafka": with_kafka,
        "outbox": away,
        "outbox_drained_per_s": round(kept / drained_s),
    }
    worst = {
        name: min(found[name]["full"]["per_s"] for found in (with_kafka, away)) / TARGETS[name]
        for name in given.kinds
    }
    slowest = max(found[name]["half"]["p99_ms"] for found in (with_kafka, away) for name in found)
    ratios = {f"{name}_to_target": round(ratio, 2) for name, ratio in worst.items()}
    ratios["p99_to_target"] = round(slowest / P99_MS, 2)
    did = f"{given.connections} connections, {given.seconds:g} s each, Bundles of {ENTRIES}"
    print(line("gateway", figures, ratios, did=did, repetitions=1))


def records(port: int) -> float:
    """Ask how many records the outbox holds."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(x.split()[1]) for x in lines if x.startswith("vigil_outbox_records{"))


if __name__ == "__main__":
    main()
