"""What the topics hold, as an outside reader of committed records sees it."""

import time
from collections.abc import Mapping

import numpy as np

from services.core.errors import Retry
from services.core.events import Decision, PredictionBatch
from services.runtime.codec import Codec
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.client import Options
from services.runtime.kafka.reader import Reader, ends, stable_ends
from services.runtime.ports import Record
from services.scoring.outputs import ALERTS, CHANGELOG, PREDICTIONS, VITALS

TOPICS = [VITALS, PREDICTIONS, ALERTS, CHANGELOG]
READ_S = 0.05
PATIENCE_S = 180.0
MOVING_S = 3.0


class Log:
    """Everything that scoring read and wrote, per partition, in order; it grows by `read`."""

    def __init__(self, options: Options, codec: Codec) -> None:
        self._options, self._codec = options, codec
        self._places = partitions_of(options, TOPICS)
        self._reader = Reader(options, dict.fromkeys(self._places, 0))
        self.records: dict[tuple[str, int], list[Record]] = {p: [] for p in self._places}
        self.predicted: dict[int, int] = {}
        """The newest vitals offset of each partition that has a prediction."""
        self.predictions = 0

    @property
    def partitions(self) -> list[int]:
        return sorted(p for topic, p in self._places if topic == VITALS)

    def of(self, topic: str, partition: int) -> list[Record]:
        return self.records[(topic, partition)]

    def last(self, topic: str, partition: int, key: bytes) -> bytes | None:
        """Give the latest value of a key; None where there is none."""
        values = (r.value for r in reversed(self.of(topic, partition)) if r.key == key)
        return next(values, None)

    def read(self) -> int:
        """Take what has come, and give the number of predictions so far."""
        try:
            records = self._reader.read(READ_S)
        except Retry:
            reached = self._reader.reached()
            self._reader.close()
            self._reader = Reader(self._options, reached)
            return self.predictions
        for record in records:
            self._take(record)
        return self.predictions

    def read_to_end(self) -> None:
        """Read everything that is committed now."""
        goals = stable_ends(self._options, self._places)
        for record in self._reader.until(goals, patience_s=PATIENCE_S):
            self._take(record)

    def settled(self, committed: Mapping[int, int]) -> bool:
        """Tell whether the group has gone through all events, with nothing of it on its way."""
        newest = {p: self.of(VITALS, p)[-1].offset for p in self.partitions if self.of(VITALS, p)}
        through = all(committed.get(p, -1) > offset for p, offset in newest.items())
        return through and not self.in_transaction()

    def moving(self) -> int:
        """Count the partitions that go on being predicted; waits until all do, or a while."""
        self.read_to_end()
        before, end = dict(self.predicted), time.monotonic() + MOVING_S
        while time.monotonic() < end and self._moved(before) < len(self.partitions):
            self.read()
        return self._moved(before)

    def _moved(self, before: Mapping[int, int]) -> int:
        return sum(offset > before.get(p, -1) for p, offset in self.predicted.items())

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open on what scoring writes."""
        written = [place for place in self._places if place[0] != VITALS]
        high, stable = ends(self._options, written), stable_ends(self._options, written)
        return any(stable[place] < high[place] for place in written)

    def close(self) -> None:
        self._reader.close()

    def _take(self, record: Record) -> None:
        self.records[(record.topic, record.partition)].append(record)
        if record.topic == PREDICTIONS:
            batch = self._codec.decode(record.value or b"", PredictionBatch)
            newest = int(np.frombuffer(batch.offsets, "<i8")[-1])
            self.predicted[record.partition] = max(
                newest, self.predicted.get(record.partition, -1)
            )
            self.predictions += batch.entries


class Count:
    """How many predictions an outside reader has seen, and how many held what would be over."""

    def __init__(self, options: Options, codec: Codec) -> None:
        places = partitions_of(options, [PREDICTIONS])
        self._reader, self._codec = Reader(options, dict.fromkeys(places, 0)), codec
        self.predictions = self.held = 0

    def read(self) -> int:
        """Take what has come, and give the number of predictions so far."""
        for record in self._reader.read(READ_S):
            batch = self._codec.decode(record.value or b"", PredictionBatch)
            self.predictions += batch.entries
            self.held += batch.decisions.count(Decision.HELD_EXPIRED)
        return self.predictions

    def close(self) -> None:
        self._reader.close()
