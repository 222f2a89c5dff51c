"""When a block is written: full, old enough, or at the end; never later."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from services.audit.pipeline import Limits, Loop
from services.audit.recorder import Recorder, Source
from services.runtime.kafka.reader import Partition
from services.runtime.ports import Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.progress import Progress

LIMITS = Limits(rows=10, bytes=100, seconds=0.75)
SOURCE = Source(topic="t", topic_id="0" * 32, phi=False, event=None)


class Hours:
    """A clock, a reader that moves it, and a store that notes when it was written to."""

    def __init__(self, reads: Sequence[tuple[float, int, int]]) -> None:
        self.now = 100.0
        self.written: list[tuple[float, int]] = []
        self.stopping = threading.Event()
        self._reads, self._offset = list(reads), 0

    def clock(self) -> float:
        return self.now

    def read(self, timeout_s: float) -> list[Record]:  # noqa: ARG002 - time passes as told
        if not self._reads:
            self.stopping.set()
            return []
        seconds, count, size = self._reads.pop(0)
        self.now += seconds
        found = [Record("t", 0, self._offset + i, 0, None, bytes(size)) for i in range(count)]
        self._offset += count
        return found

    def lag(self) -> Mapping[Partition, int]:
        return {("t", 0): 0}

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        assert table == "ledger"
        self.written.append((round(self.now - 100, 3), len(columns["offset"])))

    def query(self, statement: str, *_: Any, **__: Any) -> dict[str, Sequence[Any]]:
        raise AssertionError(statement)


def _written(*reads: tuple[float, int, int]) -> list[tuple[float, int]]:
    """Reads are (seconds waited, records found, bytes of each)."""
    hours = Hours(reads)
    metrics = Metrics(Build(service="audit", version="0", revision="0", python="3"))
    loop = Loop(
        hours,
        LIMITS,
        metrics=metrics,
        progress=Progress(metrics, hours.clock),
        clock=hours.clock,
    )
    recorder = Recorder("c", {"t": SOURCE}, heads={}, held={}, decode=lambda _, kind: kind())
    loop.run(hours, recorder, hours.stopping)
    return hours.written


def test_a_block_is_written_when_it_is_full() -> None:
    assert _written((0.1, 6, 1), (0.1, 6, 1), (0.1, 0, 0)) == [(0.2, 12)]
    assert _written((0.1, 1, 60), (0.1, 1, 60), (0.1, 0, 0)) == [(0.2, 2)]


def test_a_block_is_written_when_its_first_record_has_waited_long_enough() -> None:
    quiet = [(0.25, 0, 0)] * 9
    assert _written((0.25, 1, 1), *quiet) == [(1.0, 1)]
    assert _written((0.25, 1, 1), (0.5, 1, 1), (0.25, 1, 1), (0.25, 0, 0)) == [(1.0, 3)]


def test_what_was_read_is_written_before_the_end() -> None:
    assert _written((0.1, 3, 1)) == [(0.1, 3)]


def test_without_records_nothing_is_written() -> None:
    assert _written((1.0, 0, 0), (1.0, 0, 0)) == []


def test_what_was_verified_is_looked_at_when_the_loop_begins_and_every_minute() -> None:
    hours = Hours([(0.0, 0, 0), (59.0, 0, 0), (1.0, 0, 0), (0.5, 0, 0), (60.0, 0, 0)])
    metrics = Metrics(Build(service="audit", version="0", revision="0", python="3"))
    looks: list[float] = []
    loop = Loop(
        hours,
        LIMITS,
        metrics=metrics,
        progress=Progress(metrics, hours.clock),
        clock=hours.clock,
        look=lambda: looks.append(hours.now - 100),
    )
    recorder = Recorder("c", {"t": SOURCE}, heads={}, held={}, decode=lambda _, kind: kind())
    loop.run(hours, recorder, hours.stopping)
    assert looks == [0.0, 60.0, 120.5]
