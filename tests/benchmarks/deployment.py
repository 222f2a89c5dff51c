"""How long events wait while another model is loaded and takes over; one process, no Kafka.

`cut_over` measures the same from outside, on a broker.

Events are due every 20 ms. Of each batch the time from when it was due to when its outputs were
there is taken: while nothing happens, while a model is loaded beside, and as it takes over.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from report import line
from scoring import vitals
from wards import deployment

from services.core.events import Change, Role
from services.core.lineup import History, LineUp, Seat
from services.local.home import REPO
from services.runtime.bundle import FILES
from services.runtime.codec import Codec
from services.runtime.ports import Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring.__main__ import engine, opener
from services.scoring.fleet import Fleet, Live
from services.scoring.outputs import VITALS
from services.scoring.pipeline import Scorer, Scoring
from services.training.pack import as_json, pack

SHIPPED = REPO / "models" / "sepsis" / "1.0.0"
EVERY_S = 0.02
QUIET_S = 2.0
WARM = 100
"""So many batches pass before anything is taken: the first compile what the others use."""
CODEC = Codec(REPO / "schemas")


def another(models: Path, number: int) -> Seat:
    """Pack the shipped model once more, so that it was never loaded; give its seat."""
    version = f"1.0.{number}"
    contents = {name: (SHIPPED / name).read_bytes() for name in FILES}
    policy = json.loads(contents["policy.json"]) | {"version": version}
    contents["policy.json"] = as_json(policy)
    folder = models / "sepsis" / version
    digest = pack(folder, contents, {"name": "sepsis", "version": version})
    return Seat(name="sepsis", version=version, digest=digest)


class Site:
    """A fleet, and changes that it hears of, each with a bundle that was never loaded."""

    def __init__(self, models: Path) -> None:
        self._models, self._history, self._made = models, History(), 0
        metrics = Metrics(Build.of("scoring"))
        opened = engine(SHIPPED, role=Role.SHOWN, topic_id="0")
        open_ = opener(models, role=Role.SHOWN, topic_id="0")
        self.fleet = Fleet(opened, open_, CODEC, metrics)

    def change(self) -> threading.Thread:
        """Let the fleet hear of another champion, and load it in a thread of its own."""
        self._made += 1
        seat = another(self._models, self._made)
        change = self._change(LineUp(champion=seat))
        self.fleet.take(Record("changes.v1", 0, self._made, 0, None, CODEC.encode(change)))
        thread = threading.Thread(target=self.fleet.settle)
        thread.start()
        return thread

    def _change(self, line_up: LineUp) -> Change:
        change = deployment(self._history.propose(line_up), self._made)
        self._history.take(change, self._made)
        return change


class Waits:
    """Scores batches when they are due, and remembers how late each was."""

    def __init__(self, site: Site, batches: Iterator[Sequence[Record]]) -> None:
        self._site, self._batches = site, batches
        scorer = Scorer(CODEC, Live(site.fleet, lambda: None), lambda *_: None)
        self._task = Scoring(0, scorer)
        self.quiet: list[float] = []
        self.loading: list[float] = []
        self.taking_over: list[float] = []

    def warm(self) -> None:
        """Let batches pass that nobody measures."""
        for _ in range(WARM):
            self._score(time.monotonic(), [])

    def pass_(self) -> None:
        """Let some seconds pass, then a change come and take over."""
        due, end = time.monotonic(), time.monotonic() + QUIET_S
        while due < end:
            due = self._score(due, self.quiet)
        thread = self._site.change()
        due = time.monotonic()
        while thread.is_alive():
            due = self._score(due, self.loading)
        self._score(due, self.taking_over)

    def _score(self, due: float, into: list[float]) -> float:
        time.sleep(max(due - time.monotonic(), 0))
        for _ in self._task.handle(next(self._batches)):
            pass
        list(self._task.changes())
        into.append(time.monotonic() - due)
        return due + EVERY_S


def spread_ms(waits: Sequence[float]) -> dict[str, float]:
    p50, p99, most = np.quantile(waits, [0.5, 0.99, 1.0]) * 1000
    return {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "max_ms": round(most, 1)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--rate", type=int, default=1500)
    given = parser.parse_args()
    sys.stderr.write("simulating the ward\n")
    each = int(given.rate * EVERY_S)
    events = vitals(400, int(given.changes * (QUIET_S + 8) * given.rate))
    log = [Record(VITALS, 0, at, 0, e.key, e.value) for at, e in enumerate(events)]
    batches = iter([log[at : at + each] for at in range(0, len(log), each)])
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        waits = Waits(Site(Path(folder)), batches)
        waits.warm()
        for _ in range(given.changes):
            waits.pass_()
    figures = {
        "quiet": spread_ms(waits.quiet),
        "loading": spread_ms(waits.loading),
        "taking_over": spread_ms(waits.taking_over),
    }
    sys.stdout.write(
        line("deployment", figures, {}, changes=given.changes, rate=given.rate) + "\n"
    )


if __name__ == "__main__":
    main()
