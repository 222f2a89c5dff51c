"""`make bench NAME=latency`: from the gateway's acceptance to an alert that a subscriber sees.

The whole path on one machine, everything on. A sender of its own process posts Bundles of ten
events (ten patients each) that were made before; an outside reader of committed records takes the
time at which it sees an alert, and a prediction. Then a burst: so many events as fast as the
gateway takes them. A round of vital signs comes as one Observation each, 4.7 in the mean, or with
`--panels` as the components of one. Beside each phase stands how fast the machine was (`pace`).
"""

import argparse
import itertools
import multiprocessing
import queue
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from lives import until
from pace import Pace
from progress import counting, ending_by_signal, say
from report import line
from spool import Spool, merged, send, spooled
from whole_path import WholePath

from services.core.events import Alert, Disposition, PredictionBatch, Step
from services.local.home import REPO, here
from services.runtime.codec import Codec
from services.runtime.kafka.listening import Listening
from services.runtime.ports import Record
from services.simulator.messages import START
from services.simulator.trouble import NO_TROUBLE
from services.simulator.ward import Ward

TOPICS = ["predictions.v1", "alerts.v1"]
TOLD_S = 1.0
SETTLED_S = 300.0
BARS_MS = [("steady", "p50", 60.0), ("steady", "p99", 300.0), ("high", "p99", 1000.0)]
REST_S = 5.0
WARM = "warm"
BURST_S = 15.0


class Subscriber:
    """Reads predictions and alerts in a thread, and notes how long ago each was accepted."""

    def __init__(self, path: WholePath) -> None:
        self._codec = Codec(REPO / "schemas")
        self._listening = Listening(path.options, TOPICS, self._hear)
        self.alerts: list[float] = []
        self.scored: list[np.ndarray[Any, Any]] = []
        self.predictions = 0
        self.scored_at = time.monotonic()

    def __enter__(self) -> Self:
        self._listening.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._listening.__exit__(*reason)

    def clear(self) -> None:
        self.alerts, self.scored = [], []

    def _hear(self, records: list[Record]) -> None:
        now_us = time.time() * 1e6
        for record in records:
            if record.topic == "alerts.v1":
                self._alert(self._codec.decode(record.value or b"", Alert), now_us)
            else:
                self._batch(self._codec.decode(record.value or b"", PredictionBatch), now_us)

    def _alert(self, alert: Alert, now_us: float) -> None:
        if alert.step is Step.RAISED:
            self.alerts.append((now_us - alert.accepted_at) / 1000)

    def _batch(self, batch: PredictionBatch, now_us: float) -> None:
        scored = np.frombuffer(batch.dispositions, "u1") == Disposition.SCORED
        accepted = np.frombuffer(batch.accepted_at, "<i8")[scored]
        if len(accepted):
            self.scored.append((now_us - accepted) / 1000)
            self.scored_at = time.monotonic()
        self.predictions += batch.entries


def percentiles(found: Iterable[float]) -> dict[str, float]:
    values = np.fromiter(found, float)
    if not len(values):
        return {"n": 0}
    p50, p99 = np.percentile(values, [50, 99])
    return {
        "n": len(values),
        "p50": round(float(p50), 1),
        "p99": round(float(p99), 1),
        "max": round(float(values.max()), 1),
    }


def phase(
    path: WholePath, seen: Subscriber, spool: Spool, seconds: float | None
) -> dict[str, Any]:
    """Send one spool, wait until every offset is accounted for, and give what was seen."""
    seen.clear()
    before = seen.predictions
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    # A daemon: it must not go on where the bench is told to end.
    sender = context.Process(target=send, args=(spool, path.gateway, seconds, answer), daemon=True)
    sender.start()
    sent = awaited(answer, sender, counting(spool.path.name, spool.events), seen, before)
    sender.join()
    unexplained = settled(path, seen)
    return {
        "events_per_s": round((seen.predictions - before) / sent["elapsed_s"], 1),
        "bundles_accepted": sent["accepted"],
        "bundles_refused": sent["refused"],
        "sent_in_s": round(sent["elapsed_s"], 2),
        "all_scored_after_s": round(seen.scored_at - sent["began"], 2),
        "unexplained": unexplained,
        "accepted_to_alert_ms": percentiles(seen.alerts),
        "accepted_to_prediction_ms": percentiles(itertools.chain(*seen.scored)),
    }


def awaited(
    answer: Any, sender: Any, tell: Callable[[int], int], seen: Subscriber, before: int
) -> dict[str, Any]:
    """Tell how many are predicted until the sender answers."""
    while True:
        try:
            found: dict[str, Any] = answer.get(timeout=TOLD_S)
        except queue.Empty:
            assert sender.is_alive(), "the sender died"
            tell(seen.predictions - before)
        else:
            return found


def settled(path: WholePath, seen: Subscriber) -> int:
    """Wait until predictions are at rest and the books agree; give what stays unexplained."""
    deadline = time.monotonic() + SETTLED_S
    until(lambda: time.monotonic() - seen.scored_at > REST_S, seconds=SETTLED_S)
    code, answer = path.vigil("ledger", "reconcile")
    while code and time.monotonic() < deadline:
        code, answer = path.vigil("ledger", "reconcile")
    return int(answer["unexplained_total"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=1_500, help="events a second")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--warm-seconds", type=float, default=60, help="before, at that rate")
    parser.add_argument("--high-rate", type=float, default=5_000)
    parser.add_argument("--high-seconds", type=float, default=120)
    parser.add_argument("--burst", type=int, default=20_000, help="events at once")
    parser.add_argument("--size", type=int, default=10, help="events in a Bundle")
    parser.add_argument("--beds", type=int, default=3_000)
    parser.add_argument(
        "--panels", action="store_true", help="a round's vital signs in one Observation"
    )
    given = parser.parse_args()
    wanted = {
        WARM: (int(given.rate * given.warm_seconds), given.warm_seconds),
        "steady": (int(given.rate * given.seconds), given.seconds),
        "high": (int(given.high_rate * given.high_seconds), given.high_seconds),
        "burst": (given.burst, None),
    }
    ending_by_signal()
    path, figures = WholePath(here().cache, broker_apart=False), dict[str, Any]()
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        say("making the Bundles")
        ward = Ward(np.random.default_rng(3), START, beds=given.beds, trouble=NO_TROUBLE)
        stream = merged(ward.messages(100_000), given.size, panels=given.panels)
        spools = {
            name: spooled(
                Path(folder) / name, itertools.islice(stream, many // given.size), given.size
            )
            for name, (many, _) in wanted.items()
        }
        try:
            path.start()
            with Subscriber(path) as seen, Pace() as pace:
                for name, (_, seconds) in wanted.items():
                    began = time.monotonic()
                    figures[name] = phase(path, seen, spools[name], seconds)
                    ended = began + figures[name]["sent_in_s"]
                    figures[name]["machine_ms"] = pace.between(began, ended)
                    say(f"{name}: {figures[name]}")
        finally:
            path.stop()
    del figures[WARM]
    shape = "one Observation" if given.panels else "its Observations"
    did = f"Bundles of {given.size} events, {shape} each, {given.beds} beds, everything on"
    print(line("latency", figures, {}, bars=bars(figures), did=did, repetitions=1))


def bars(figures: dict[str, Any]) -> dict[str, Any]:
    """Say of each bar whether it was reached."""
    found = {}
    for name, quantile, bar in BARS_MS:
        value = figures[name]["accepted_to_alert_ms"].get(quantile, float("inf"))
        found[f"{name}_{quantile}_ms"] = {"bar": bar, "reached": value <= bar}
    burst = figures["burst"]
    found["burst_scored_s"] = {"bar": BURST_S, "reached": burst["all_scored_after_s"] <= BURST_S}
    lost = sum(each["unexplained"] + each["bundles_refused"] for each in figures.values())
    return found | {"lost": {"bar": 0, "reached": lost == 0}}


if __name__ == "__main__":
    main()
