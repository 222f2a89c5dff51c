"""Writes kept records in transactions that hold how far it got too: each is there once."""

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from services.core.errors import Retry
from services.runtime.kafka.client import QUIET, Options, shut_doors_raise_retry
from services.runtime.kafka.publisher import TransactionalPublisher
from services.runtime.ports import Output

OPEN_TIMEOUT_S: Final = 10.0
COMMIT_TIMEOUT_S: Final = 10.0
TRANSACTION_MS: Final = 15_000


class Shipper:
    """One life of the writer of a numbered row of records.

    How far it got is the committed offset of a group without members. Any error ends this life:
    throw it away and make another, which fences it.
    """

    def __init__(self, options: Options, *, name: str, topic: str) -> None:
        """Prepare to write.

        Args:
            options: of the cluster.
            name: of the row of records: its transactional id and its group.
            topic: that exists; its first partition lends its place in the group.
        """
        self._place = (topic, 0)
        self._publisher = TransactionalPublisher(
            options, transactional_id=name, timeout_ms=TRANSACTION_MS
        )
        self._mark = Consumer(
            {
                **options,
                **QUIET,
                "group.id": name,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )

    def open(self) -> int:
        """End every earlier life and give the number after the last record that is written.

        It is 0 where none ever was. May block for 20 s.

        Raises:
            Retry: Kafka did not answer in time.
        """
        self._publisher.open(OPEN_TIMEOUT_S)
        with shut_doors_raise_retry("committed offset"):
            (found,) = self._mark.committed([TopicPartition(*self._place)], OPEN_TIMEOUT_S)
        if found.error is not None:
            raise Retry(f"Kafka: the committed offset is not known ({found.error.name()})")
        return max(found.offset, 0)

    def ship(self, outputs: Sequence[Output], through: int) -> None:
        """Write records, all or none, and that they are; may block for 20 s.

        Args:
            outputs: in order.
            through: the number after the last of them.

        Raises:
            Retry: it is not known whether they are written; only the next life can tell.
        """
        self._publisher.begin()
        self._publisher.write(outputs)
        self._publisher.commit({self._place: through}, self, COMMIT_TIMEOUT_S)

    def metadata(self) -> Any:
        """Give what a transaction needs to commit for this group."""
        return self._mark.consumer_group_metadata()

    def close(self) -> None:
        """Leave the cluster."""
        with shut_doors_raise_retry("close"):
            self._mark.close()
