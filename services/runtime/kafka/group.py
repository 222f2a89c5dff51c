"""A member of a consumer group: reads committed records, and is told what it gains and loses."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from services.core.errors import Retry
from services.runtime.kafka.client import (
    QUIET,
    Options,
    gathering,
    record_of,
    shut_doors_raise_retry,
)
from services.runtime.ports import Record

Partition = tuple[str, int]
OnChange = Callable[[Sequence[Partition]], None]

AT_ONCE: Final = 500
COMMITTED_TIMEOUT_S: Final = 10.0


class GroupReader:
    """Reads the partitions that the group assigns to this member.

    The callbacks run inside `read` and `drain`, on the caller's thread. `gained` must leave the
    partitions ready to be consumed; `revoked` is the last moment at which offsets can be
    committed; `lost` tells that this moment has passed.
    """

    def __init__(
        self,
        options: Options,
        *,
        group: str,
        instance: str,
        topics: list[str],
        gather_s: float = 0,
        at_once: int = AT_ONCE,
    ) -> None:
        """Prepare to join.

        Args:
            options: of the cluster.
            group: name of the group.
            instance: static name of this member.
            topics: that are read.
            gather_s: how long records may wait for company.
            at_once: so many records one reading brings, at most.
        """
        self._at_once = at_once
        self._consumer = Consumer(
            {
                **options,
                **QUIET,
                "group.id": group,
                "group.instance.id": instance,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1500,
                "partition.assignment.strategy": "range",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                **gathering(gather_s),
                "fetch.message.max.bytes": 4 << 20,
            }
        )
        self._topics = topics
        self._failure: Exception | None = None

    def join(self, *, gained: OnChange, revoked: OnChange, lost: OnChange) -> None:
        """Join the group; the callbacks come from `read` and `drain`."""

        def on_assign(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            # The order matters: offsets first, then the state that belongs to them (event model,
            # State). Asked the other way round, a commit in between would be missing in the state.
            with self._kept_for_the_caller(), shut_doors_raise_retry("committed offsets"):
                placed = self._at_committed(partitions)
                gained([(p.topic, p.partition) for p in partitions])
                consumer.assign(placed)

        def on_revoke(_: Consumer, partitions: list[TopicPartition]) -> None:
            with self._kept_for_the_caller():
                revoked([(p.topic, p.partition) for p in partitions])

        def on_lost(_: Consumer, partitions: list[TopicPartition]) -> None:
            with self._kept_for_the_caller():
                lost([(p.topic, p.partition) for p in partitions])

        with shut_doors_raise_retry("subscribe"):
            self._consumer.subscribe(
                self._topics, on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost
            )

    @contextmanager
    def _kept_for_the_caller(self) -> Iterator[None]:
        """Keep what a callback raises until `read` or `close` can raise it.

        The client calls back from its own C code, through which an exception does not pass whole.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again by `_raise_kept`
            self._failure = self._failure or error

    def _raise_kept(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _at_committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Place partitions at the group's stable offsets.

        A read_committed member asks for stable offsets: the broker answers only when no
        transaction with a pending commit of this group is open, so that an offset never runs
        ahead of its outputs.
        """
        placed = self._consumer.committed(partitions, timeout=COMMITTED_TIMEOUT_S)
        for place in placed:
            if place.error is not None:
                raise Retry(f"Kafka: a committed offset is not known ({place.error.name()})")
        return placed

    def read(self, timeout_s: float) -> list[Record]:
        """Wait at most `timeout_s` for a record and take what has arrived with it.

        `consume(n, timeout)` would wait for n records or the whole timeout; this does not.

        Raises:
            Retry: the client failed.
        """
        with shut_doors_raise_retry("poll"):
            message = self._consumer.poll(timeout_s)
        self._raise_kept()
        return [] if message is None else [record_of(message), *self.drain()]

    def drain(self) -> list[Record]:
        """Take what has already arrived, one record less than a reading may bring."""
        with shut_doors_raise_retry("consume"):
            messages = self._consumer.consume(self._at_once - 1, 0)
        self._raise_kept()
        return [record_of(message) for message in messages]

    def metadata(self) -> Any:
        """Give what a transaction needs to commit for this member."""
        return self._consumer.consumer_group_metadata()

    def lag(self) -> dict[Partition, int]:
        """Say per assigned partition how far the position is behind the last end that was heard.

        At rest it is 0 or 1: a commit marker takes an offset too.
        """
        behind = {}
        for place in self._consumer.position(self._consumer.assignment()):
            low, high = self._consumer.get_watermark_offsets(place, cached=True)
            behind[(place.topic, place.partition)] = max(0, high - max(place.offset, low))
        return behind

    def close(self) -> None:
        """Leave; `revoked` is called first for what is still held."""
        try:
            with shut_doors_raise_retry("close"):
                self._consumer.close()
        except RuntimeError as error:
            raise Retry("Kafka: the reader was closed before") from error
        self._raise_kept()
