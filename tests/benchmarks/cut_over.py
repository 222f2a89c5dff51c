"""`make bench NAME=cut_over`: champions change under load, on a broker, seen from outside.

The real scoring service, a steady feed of vitals, and a reader of committed predictions that notes
when each came. The longest time between one prediction and the next is taken while nothing
changes, and from the moment at which a change is written until every partition is scored by it.
Afterwards every offset must have one prediction that is shown, by the model that the log names.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
from chaos.feed import Feed, vitals
from chaos.ground import PARTITIONS, Ground, Instance
from chaos.log import Log
from chaos.shown import Shown, shown
from deployment import SHIPPED, another
from lives import until
from progress import ending_by_signal, say
from report import line
from wards import deployment

from services.core.events import PredictionBatch
from services.core.lineup import History, LineUp, Seat
from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.codec import Codec
from services.runtime.kafka.listening import Listening
from services.runtime.kafka.publisher import Publisher
from services.runtime.ports import Output, Record
from services.scoring.outputs import PREDICTIONS

CODEC: Final = Codec(REPO / "schemas")
QUIET_S: Final = 3.0
WARM: Final = 2000
PATIENCE_S: Final = 60.0
BEDS: Final = 120
BAR_MS: Final = 200.0


class Came(NamedTuple):
    """When predictions of a model came, by the monotonic clock, and of which partition."""

    at: float
    partition: int
    digest: str


class Watcher:
    """Reads committed predictions in a thread of its own, and notes when each batch came."""

    def __init__(self, ground: Ground) -> None:
        self._listening = Listening(ground.options, [PREDICTIONS], self._hear)
        self.came: list[Came] = []
        self.seen = 0

    def __enter__(self) -> Self:
        self._listening.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._listening.__exit__(*reason)

    def _hear(self, records: list[Record]) -> None:
        now = time.monotonic()
        for record in records:
            batch = CODEC.decode(record.value or b"", PredictionBatch)
            self.seen += batch.entries
            self.came.append(Came(now, record.partition, batch.model_digest))

    def scored_by(self, digest: str, since: int) -> bool:
        """Tell whether every partition was scored by a model since so many batches."""
        found = {each.partition for each in self.came[since:] if each.digest == digest}
        return len(found) == PARTITIONS

    def longest(self, begin: float, end: float) -> float:
        """Give the longest time between two predictions of which one came in between, in ms."""
        times = np.array([each.at for each in self.came])
        first, last = np.searchsorted(times, [begin, end])
        # One more on either side: a pause may begin or end outside.
        return float(np.diff(times[max(first - 1, 0) : last + 1]).max() * 1000)


class Changes:
    """Writes changes of the champion, each to a bundle that was never loaded."""

    def __init__(self, ground: Ground, models: Path) -> None:
        self._models, self._history, self._made = models, History(), 0
        self._publisher = Publisher(ground.options)

    def seat(self) -> Seat:
        """Make another bundle."""
        self._made += 1
        return another(self._models, self._made)

    def write(self, seat: Seat) -> None:
        """Let a bundle be the champion from now on."""
        change = deployment(self._history.propose(LineUp(champion=seat)), self._made)
        self._history.take(change, self._made)
        written: list[bool] = []
        output = Output("changes.v1", b"model", CODEC.encode(change), 0)
        self._publisher.send(output, written.append)
        self._publisher.flush(PATIENCE_S)
        assert written == [True]


class Pauses(NamedTuple):
    """The longest pauses in ms, and the time from a change to the last partition that takes it."""

    quiet: list[float]
    changing: list[float]
    taken_s: list[float]


def changed(watcher: Watcher, changes: Changes, many: int) -> Pauses:
    """Let so many changes come, with quiet before each."""
    found = Pauses([], [], [])
    for number in range(1, many + 1):
        seat, begin = changes.seat(), time.monotonic()
        until(lambda begin=begin: time.monotonic() - begin > QUIET_S)  # type: ignore[misc]  # bound now
        quiet, since = time.monotonic(), len(watcher.came)
        changes.write(seat)
        until(lambda d=seat.digest, n=since: watcher.scored_by(d, n))  # type: ignore[misc]  # bound now
        done = time.monotonic()
        found.quiet.append(watcher.longest(begin, quiet))
        found.changing.append(watcher.longest(quiet, done))
        found.taken_s.append(done - quiet)
        say(f"change {number} of {many}: pause {found.changing[-1]:.0f} ms")
    return found


def run(given: argparse.Namespace, broker: Broker, folder: Path) -> tuple[Pauses, Shown, float]:
    """Feed, change, and account for every offset."""
    ground = Ground(broker, folder, SHIPPED)
    models = folder / "models"
    ground.environ["VIGIL_MODELS"] = str(models)
    # Made before: what makes them would compete with what is measured.
    many = int(given.rate * (given.changes + 2) * (QUIET_S + given.patience))
    events = list(itertools.islice(vitals(7, beds=BEDS), many))
    feed = Feed(broker.bootstrap, events, rate=given.rate)
    with Instance(ground) as service, Watcher(ground) as watcher:
        service.start()
        with feed:
            until(lambda: watcher.seen > WARM, what="a beginning")
            pauses = changed(watcher, Changes(ground, models), given.changes)
            assert not feed.over, "the feed came to its end: give more --patience"
        log = Log(ground.options, CODEC)
        log.read_to_end()
        until(lambda: log.settled(ground.committed()), what="the end of the log")
        log.read_to_end()
        service.stop()
    log.close()
    return pauses, shown(log, CODEC), feed.rate


def spread(values: list[float]) -> dict[str, float]:
    """Median and largest, rounded."""
    return {"median": round(float(np.median(values)), 2), "max": round(max(values), 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--rate", type=float, default=330.0, help="events a second")
    parser.add_argument("--patience", type=float, default=12.0, help="seconds for one change")
    given = parser.parse_args()
    ending_by_signal()
    say("simulating the ward")
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port(), cache=here().cache)
        try:
            pauses, found, rate = run(given, broker.start(), Path(folder))
        finally:
            broker.stop()
    figures = {
        "events_per_s": round(rate, 1),
        "changes": given.changes,
        "pause_quiet_ms": spread(pauses.quiet),
        "pause_changing_ms": spread(pauses.changing),
        "written_to_every_partition_s": spread(pauses.taken_s),
        "events": found.events,
        "without_a_champion": found.missing,
        "with_two": found.doubled,
        "by_another_than_the_log_says": found.foreign,
        "champions": len(found.models),
    }
    worst = max(pauses.changing)
    bars = {
        "pause_changing_ms": {"bar": BAR_MS, "reached": worst <= BAR_MS},
        "faults": {"bar": 0, "reached": found.faults == 0},
        "champions": {"bar": given.changes + 1, "reached": len(found.models) == given.changes + 1},
    }
    did = f"champion changed {given.changes} times on a broker, read from outside"
    print(line("cut-over", figures, {}, bars=bars, did=did, repetitions=given.changes))


if __name__ == "__main__":
    main()
