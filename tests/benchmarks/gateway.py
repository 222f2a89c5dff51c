"""`make bench NAME=gateway`: what the doors take, every answer after a durable write.

For each kind of message: as fast as one process answers (closed loop), and how long an answer
takes at half of that (open loop: its time counts from when the message was due). Once with Kafka,
and once with Kafka away, when the write is the outbox's.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import process_time
from timeit import timeit
from typing import Any

import hl7  # type: ignore[import-untyped]  # it has no types
import msgspec
import numpy as np
import uvloop
from report import line
from typing_extensions import override

from services.gateway.hl7v2.segments import parted
from services.gateway.hl7v2.translation import bundle as translated
from services.gateway.hl7v2.translation import header_of
from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.kafka.admin import create_topic
from services.simulator.fhir import Charted, bundle, observation

TARGETS = {"observation": 3000, "bundle": 200, "hl7v2": 3000}
"""Messages a second and process; a Bundle has 100 Observations."""
ENTRIES = 100
DEADLINE_S = 60.0

Ended = Callable[[bytes], bool]


class Conversation(asyncio.Protocol):
    """One connection: a message at a time, each after the answer to the last."""

    def __init__(self, message: bytes, ended: Ended, accepted: bytes, period_s: float) -> None:
        """Begin.

        Args:
            message: as it is sent each time.
            ended: whether an answer is whole.
            accepted: what an answer holds that says yes.
            period_s: between two messages; 0 for the next at once.
        """
        self.latencies_s, self.refused = array("d"), 0
        self._message, self._ended, self._accepted = message, ended, accepted
        self._period_s, self._answer, self._due_s = period_s, b"", 0.0
        self._loop = asyncio.get_running_loop()
        self._wire: Any = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = transport
        # Connections begin spread over the period.
        self._due_s = self._loop.time() + self._period_s * np.random.default_rng().random()
        self._loop.call_at(self._due_s, self._send)

    def _send(self) -> None:
        if not self._wire.is_closing():
            self._wire.write(self._message)

    @override
    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._ended(self._answer):
            return
        now_s = self._loop.time()
        self.latencies_s.append(now_s - self._due_s)
        self.refused += self._accepted not in self._answer
        self._answer = b""
        self._due_s = self._due_s + self._period_s if self._period_s else now_s
        self._loop.call_at(max(self._due_s, now_s), self._send)

    def close(self) -> None:
        self._wire.close()


class Kind(msgspec.Struct, frozen=True):
    """A kind of message: what is sent, where, and how its answer ends and says yes."""

    message: bytes
    port: int
    ended: Ended
    accepted: bytes


def http(body: bytes, port: int) -> Kind:
    head = (
        "POST /fhir HTTP/1.1\r\nHost: vigil\r\nContent-Type: application/fhir+json\r\n"
        f"Vigil-Source: bench\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Kind(head.encode() + body, port, lambda told: told.endswith(b"}"), b" 202 ")


def mllp(port: int) -> Kind:
    segments = (
        "MSH|^~\\&|LAB|BENCH|VIGIL|HOSP|20260101090000+0000||ORU^R01^ORU_R01|1|P|2.5.1",
        "PID|1||made-up-1^^^WEST^MR",
        "PV1|1|I|MICU^2^1||||||||||||||||V100",
        "OBR|1|P1|F1|24323-8^CMP^LN|||20260101085500+0000",
        "OBX|1|NM|8867-4^Heart rate^LN||80|/min^^UCUM|||||F|||20260101085500+0000",
        "OBX|2|NM|59408-5^SpO2^LN||97|%^^UCUM|||||F|||20260101085500+0000",
        "OBX|3|NM|8310-5^Temperature^LN||37.1|Cel^^UCUM|||||F|||20260101085500+0000",
    )
    message = b"\x0b" + "\r".join(segments).encode() + b"\x1c\r"
    return Kind(message, port, lambda told: told.endswith(b"\x1c\r"), b"MSA|AA")


def kinds(port: int, mllp_port: int) -> dict[str, Kind]:
    charted = Charted(patient="made-up-1", encounter="e-1", effective="2026-01-01T08:55:00Z")
    made = [observation(charted, f"o-{n}", name="HR", value=80.0) for n in range(ENTRIES)]
    return {
        "observation": http(msgspec.json.encode(made[0]), port),
        "bundle": http(msgspec.json.encode(bundle(made)), port),
        "hl7v2": mllp(mllp_port),
    }


def _same(conversation: Conversation) -> Conversation:
    return conversation


async def converse(kind: Kind, connections: int, seconds: float, rate: float) -> dict[str, float]:
    """Talk for a while; rate 0 is as fast as it goes."""
    loop = asyncio.get_running_loop()
    period_s = connections / rate if rate else 0.0
    held = [
        Conversation(kind.message, kind.ended, kind.accepted, period_s) for _ in range(connections)
    ]
    for conversation in held:
        await loop.create_connection(partial(_same, conversation), "127.0.0.1", kind.port)
    await asyncio.sleep(min(2.0, seconds / 4))
    before, began = [len(c.latencies_s) for c in held], loop.time()
    await asyncio.sleep(seconds)
    elapsed = loop.time() - began
    latencies = np.concatenate(
        [np.array(c.latencies_s[n:]) for c, n in zip(held, before, strict=True)]
    )
    for conversation in held:
        conversation.close()
    refused = sum(c.refused for c in held)
    if refused or not len(latencies):
        raise SystemExit(f"{refused} messages were refused, {len(latencies)} answered")
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return {"per_s": len(latencies) / elapsed, "p50_ms": p50, "p99_ms": p99}


def half(kind: Kind, given: argparse.Namespace) -> dict[str, Any]:
    """Find the capacity, then the time of an answer at half of it."""
    full = uvloop.run(converse(kind, given.connections, given.seconds, 0))
    calm = uvloop.run(converse(kind, given.connections, given.seconds, full["per_s"] / 2))
    return {
        "per_s": round(full["per_s"]),
        "half_load_per_s": round(calm["per_s"]),
        "half_load_p50_ms": round(float(calm["p50_ms"]), 2),
        "half_load_p99_ms": round(float(calm["p99_ms"]), 2),
    }


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
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(ports: tuple[int, int], pid: int, given: argparse.Namespace) -> dict[str, Any]:
    """Measure every kind that is asked for."""
    found = {}
    for name, kind in kinds(*ports).items():
        if name in given.kinds:
            before = cpu_s(pid)
            found[name] = half(kind, given)
            found[name]["gateway_cpu_s"] = round(cpu_s(pid) - before, 1)
            sys.stderr.write(f"{name}: {found[name]}\n")
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
                with_kafka = measured((port, mllp_port), pid, given)
                broker.kill()
                time.sleep(8)  # until it is noticed: what is on its way is turned away
                away = measured((port, mllp_port), pid, given)
                kept = records(port)
                broker.start()
                drained_s = await_zero(port, kept=True, seconds=600)
        finally:
            broker.stop()
    figures = {
        "reading_us": reading_us(),
        "kafka": with_kafka,
        "outbox": away,
        "outbox_drained_per_s": round(kept / drained_s),
    }
    worst = {
        name: min(found[name]["per_s"] for found in (with_kafka, away)) / TARGETS[name]
        for name in given.kinds
    }
    ratios = {f"{name}_to_target": round(ratio, 2) for name, ratio in worst.items()}
    did = f"{given.connections} connections, {given.seconds:g} s each, Bundles of {ENTRIES}"
    print(line("gateway", figures, ratios, did=did, repetitions=1))


def records(port: int) -> float:
    """Ask how many records the outbox holds."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(x.split()[1]) for x in lines if x.startswith("vigil_outbox_records{"))


if __name__ == "__main__":
    main()
