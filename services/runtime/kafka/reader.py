"""A reader outside any group: it is told where to start, and it knows when it reached an end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from services.core.errors import Retry
from services.runtime.kafka.client import (
    QUIET,
    Options,
    gathering,
    record_of,
    shut_doors_raise_retry,
)
from services.runtime.ports import Record

BATCH_RECORDS: Final = 1000
READ_S: Final = 0.5
WATERMARK_TIMEOUT_S: Final = 10.0
MOVING: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - the client names it so
)
MOVING_S: Final = 0.1
MOVED_S: Final = 30.0
Partition = tuple[str, int]


class Reader:
    """Reads committed records of given partitions from given offsets, until told otherwise."""

    def __init__(
        self, options: Options, starts: Mapping[Partition, int], *, gather_s: float = 0
    ) -> None:
        """Begin to read.

        Args:
            options: of the cluster.
            starts: per (topic, partition) the first offset wanted.
            gather_s: how long records may wait for company.
        """
        self._reached = dict(starts)
        self._consumer = Consumer(
            {
                **options,
                **QUIET,
                # Never used to commit; the client insists on a name.
                "group.id": "vigil-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                **gathering(gather_s),
                "fetch.message.max.bytes": 4 << 20,
            }
        )
        self._consumer.assign([TopicPartition(t, p, at) for (t, p), at in starts.items()])

    def read(self, timeout_s: float) -> list[Record]:
        """Wait at most `timeout_s` for a record and take what has arrived with it.

        Raises:
            Retry: the client failed.
        """
        with shut_doors_raise_retry("poll"):
            first = self._consumer.poll(timeout_s)
            if first is None:
                return []
            messages = [first, *self._consumer.consume(BATCH_RECORDS, 0)]
        records = []
        for message in messages:
            error = message.error()
            place = (message.topic() or "", message.partition() or 0)
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client names it so
                self._reached[place] = max(self._reached[place], message.offset() or 0)
                continue
            record = record_of(message)
            self._reached[place] = record.offset + 1
            records.append(record)
        return records

    def until(self, goals: Mapping[Partition, int], *, patience_s: float) -> Iterator[Record]:
        """Read on until every goal (an offset, exclusive) is reached.

        Records behind a goal may be among those given.

        Raises:
            Retry: nothing moved for `patience_s`.
        """
        deadline = time.monotonic() + patience_s
        while any(self._reached[place] < goal for place, goal in goals.items()):
            before = dict(self._reached)
            yield from self.read(READ_S)
            if self._reached != before:
                deadline = time.monotonic() + patience_s
            elif time.monotonic() > deadline:
                raise Retry("Kafka: a partition could not be read to its end")

    def reached(self) -> Mapping[Partition, int]:
        """Say per partition up to which offset (exclusive) everything readable has been given."""
        return dict(self._reached)

    def lag(self) -> Mapping[Partition, int]:
        """Say how many offsets lie before the end of each log, as far as the client has heard.

        Asks nobody and never blocks. A partition of which nothing was heard yet is left out.
        """
        known = {place: self._high(place) for place in self._reached}
        return {p: max(high - self._reached[p], 0) for p, high in known.items() if high >= 0}

    def _high(self, place: Partition) -> int:
        return self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]

    def close(self) -> None:
        """Let go of the partitions."""
        self._consumer.close()


def ends(options: Options, partitions: list[Partition]) -> dict[Partition, int]:
    """Ask for high watermarks: the end of each log, open transactions included.

    Raises:
        Retry: the broker did not answer.
    """
    return {place: high for place, (_, high) in _watermarks(options, partitions, stable=False)}


def starts(options: Options, partitions: list[Partition]) -> dict[Partition, int]:
    """Ask for the first offset that each log still holds; raises as `ends` does."""
    return {place: low for place, (low, _) in _watermarks(options, partitions, stable=False)}


def stable_ends(options: Options, partitions: list[Partition]) -> dict[Partition, int]:
    """Ask for last stable offsets: where a reader of committed records must stop for now."""
    return {place: high for place, (_, high) in _watermarks(options, partitions, stable=True)}


def starts_since(
    options: Options, partitions: list[Partition], since_ms: int
) -> dict[Partition, int]:
    """Ask for the first offset whose record is as young as a time, or the end; raises as `ends`.

    Args:
        options: of the cluster.
        partitions: (topic, partition) each.
        since_ms: ms since the epoch, by the clock that the topic's records are stamped with.
    """
    after = ends(options, partitions)
    consumer = Consumer({**options, **QUIET, "group.id": "vigil-reader"})
    try:
        with shut_doors_raise_retry("offsets for times"):
            found = consumer.offsets_for_times(
                [TopicPartition(*place, since_ms) for place in partitions], WATERMARK_TIMEOUT_S
            )
    finally:
        consumer.close()
    told = {(at.topic, at.partition): at.offset for at in found}
    return {p: told[p] if told[p] >= 0 else after[p] for p in partitions}


def scan(
    options: Options,
    partitions: list[Partition],
    *,
    patience_s: float,
    since_ms: int | None = None,
) -> Iterator[Record]:
    """Read what partitions hold now, from their starts to their present stable ends.

    Args:
        options: of the cluster.
        partitions: (topic, partition) each.
        patience_s: how long to wait without any record before giving up.
        since_ms: ms since the epoch; older records are left out where Kafka can tell.

    Raises:
        Retry: the broker went away, or the ends were not reached in time.
    """
    goals = stable_ends(options, partitions)
    first = starts(options, partitions)
    if since_ms is not None:
        first = starts_since(options, partitions, since_ms)
    reader = Reader(options, first)
    try:
        for record in reader.until(goals, patience_s=patience_s):
            if record.offset < goals[(record.topic, record.partition)]:
                yield record
    finally:
        reader.close()


def _watermarks(
    options: Options, partitions: list[Partition], *, stable: bool
) -> Iterator[tuple[Partition, tuple[int, int]]]:
    asking: dict[str, Any] = {
        **options,
        **QUIET,
        "group.id": "vigil-reader",
        "isolation.level": "read_committed" if stable else "read_uncommitted",
    }
    consumer = Consumer(asking)
    try:
        for topic, partition in partitions:
            with shut_doors_raise_retry("list offsets"):
                answer = _asked(consumer, asking, TopicPartition(topic, partition))
            if answer is None:
                raise Retry("Kafka: no answer about the ends of a partition")
            yield (topic, partition), answer
    finally:
        consumer.close()


def _asked(
    consumer: Consumer, asking: dict[str, Any], place: TopicPartition
) -> tuple[int, int] | None:
    """Ask again while a partition gets a leader, as after its broker stood still for seconds."""
    deadline = time.monotonic() + MOVED_S
    try:
        return consumer.get_watermark_offsets(place, timeout=WATERMARK_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() not in MOVING:
            raise
    while True:
        time.sleep(MOVING_S)
        # A client holds on to what it took for unknown; another asks for itself.
        with closing(Consumer(asking)) as another:
            try:
                return another.get_watermark_offsets(place, timeout=WATERMARK_TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() not in MOVING or time.monotonic() > deadline:
                    raise
