"""`make bench NAME=pipeline`: the whole path on one machine, gateway to ledger, everything on.

A ward sends Bundles at a steady rate; an outside subscriber of alerts.v1 measures the time from
the gateway's acceptance. Lag is flat when the last quarter of the run waits no longer than the
second.
"""

import argparse
import os
import re
import statistics
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
from report import line
from whole_path import WholePath

from services.cli.demo.listener import Listener
from services.local.home import REPO, here
from services.local.roster import CLICKHOUSE
from services.local.roster import SERVICES as PROGRAMS
from services.runtime.kafka.reader import ends
from services.simulator.delivery import Pace
from services.simulator.messages import START
from services.simulator.trouble import NO_TROUBLE
from services.simulator.ward import Ward

SPEED = 600.0
SERVICES = ("ingest", "scoring", "audit")
LAG = re.compile(rb"^vigil_lag_records\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


def lag(path: WholePath, service: str) -> float:
    """Offsets that lie before the position of a service, over its partitions."""
    with urllib.request.urlopen(f"http://127.0.0.1:{path.port(service)}/metrics") as answer:
        return sum(float(found) for found in LAG.findall(answer.read()))


def rss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processes(path: WholePath) -> dict[str, int]:
    """Everything that takes part, this sender too."""
    theirs = {program.name: path.pid(program.name) for program in (CLICKHOUSE, *PROGRAMS)}
    return {**theirs, "kafka": path.pid("kafka"), "sender": os.getpid()}


def watch(path: WholePath, ending: threading.Event, lags: dict[str, list[float]]) -> None:
    while not ending.wait(1.0):
        for service in SERVICES:
            lags[service].append(lag(path, service))


def flat(lags: list[float]) -> dict[str, float]:
    """Median lag of the second and of the last quarter, and the highest of all."""
    quarter = len(lags) // 4
    return {
        "second_quarter": statistics.median(lags[quarter : 2 * quarter]),
        "last_quarter": statistics.median(lags[-quarter:]),
        "max": max(lags),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument(
        "--beds", type=int, default=2900, help="they send about 525 Bundles a second"
    )
    given = parser.parse_args()
    path = WholePath(here().cache, broker_apart=False)
    try:
        path.start()
        ward = Ward(np.random.default_rng(3), START, beds=given.beds, trouble=NO_TROUBLE)
        # The hospital is no part of the path: it has its messages ready.
        messages = list(ward.messages(given.seconds * SPEED / 3600))
        sys.stderr.write(f"{len(messages):,} messages are ready\n")
        lags: dict[str, list[float]] = {service: [] for service in SERVICES}
        ending = threading.Event()
        watcher = threading.Thread(target=watch, args=(path, ending, lags))
        before = records(path)
        with Listener(path.options, REPO / "schemas", lambda _: None) as listener:
            watcher.start()
            taking = processes(path)
            used = {name: cpu_s(pid) for name, pid in taking.items()}
            began = time.monotonic()
            path.feed(messages, Pace(speed=SPEED))
            sent = path.fed()
            elapsed = time.monotonic() - began
            used = {name: cpu_s(pid) - used[name] for name, pid in taking.items()}
            scored = records(path) - before
            ending.set()
            watcher.join()
            memory = {name: round(rss_mb(path.pid(name))) for name in ("gateway", *SERVICES)}
            account = path.settle()
        latency = np.percentile(listener.latencies_ms, [50, 99])
    finally:
        path.stop()
    observed = sent.accepted
    figures = {
        "messages_per_s": round(observed / elapsed, 1),
        "observations_per_s": round(sent.observations / elapsed, 1),
        "vitals_records_per_s": round(scored / elapsed, 1),
        "accepted_to_alert_ms": {"p50": round(latency[0], 1), "p99": round(latency[1], 1)},
        "alerts": len(listener.latencies_ms),
        "lag_records": {service: flat(found) for service, found in lags.items()},
        "rss_mb": memory,
        "cpu_us_per_message": {n: round(spent / observed * 1e6) for n, spent in used.items()},
        "unexplained": account["unexplained_total"],
    }
    did = f"{given.beds} beds, {elapsed:.0f} s, one event per message, ticks every event minute"
    print(line("pipeline", figures, {}, did=did, repetitions=1))
    sys.stderr.write("a lag is flat when its last quarter is not above its second\n")


def records(path: WholePath) -> int:
    """The ends of all partitions of vitals.v1; markers of transactions count too."""
    return sum(ends(path.options, path.places(["vitals.v1"])).values())


if __name__ == "__main__":
    main()
