"""Writers: one that promises each record, and one that writes in transactions."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, Message, Producer, TopicPartition

from services.core.errors import Retry
from services.runtime.kafka.client import QUIET, Options, shut_doors_raise_retry
from services.runtime.ports import Output

BUFFER_FULL_WAIT_S: Final = 0.05
QUEUE_KIB: Final = 64 << 10
"""Unsent records that one publisher holds before it refuses more."""
UNASSIGNED: Final = -1  # the key decides


class Member(Protocol):
    """Somebody for whose group offsets can be committed."""

    def metadata(self) -> Any:
        """Give what a transaction needs to commit for it."""


Delivered = Callable[[bool], None]
"""Called once per record from `poll`: True when every in-sync replica holds it."""


class Publisher:
    """Writes single records durably (`acks=all`, idempotent), for doors that answer a sender."""

    def __init__(
        self, options: Options, *, delivery_timeout_s: float = 10.0, linger_ms: int = 1
    ) -> None:
        """Prepare to write.

        Args:
            options: of the cluster.
            delivery_timeout_s: a record that is not held by then is given up.
            linger_ms: a record waits so long for others to go with: one request for each of many
                costs client and broker more than the records.
        """
        self._producer = Producer(
            {
                **options,
                **QUIET,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": linger_ms,
                "delivery.timeout.ms": int(delivery_timeout_s * 1000),
                "partitioner": "murmur2_random",
                "message.max.bytes": 2_097_152,
                "queue.buffering.max.kbytes": QUEUE_KIB,
                "error_cb": self._note,
            }
        )
        self.broken = False
        """Whether the client has failed for good; only a new one can deliver."""

    def _note(self, error: KafkaError) -> None:
        self.broken = self.broken or error.fatal()

    def reach(self, topic: str, timeout_s: float) -> None:
        """Return when the cluster answers and has the topic; may block for `timeout_s`.

        Raises:
            Retry: it does not answer in time, or has no such topic.
        """
        with shut_doors_raise_retry("describe topic"):
            found = self._producer.list_topics(topic, timeout=timeout_s).topics[topic]
        if found.error is not None:
            raise Retry(f"Kafka: topic {topic} does not exist; run `vigil topics apply`")

    def send(self, output: Output, delivered: Delivered) -> None:
        """Queue a record; `delivered` is called later from `poll` or `flush`.

        Raises:
            Retry: the queue is full (Kafka is away or slower than the senders), or the client
                is broken.
        """

        def report(error: KafkaError | None, _: Message) -> None:
            delivered(error is None)

        try:
            with shut_doors_raise_retry("produce"):
                self._producer.produce(
                    output.topic,
                    value=output.value,
                    key=output.key,
                    partition=UNASSIGNED if output.partition is None else output.partition,
                    headers=list(output.headers),
                    on_delivery=report,
                )
        except BufferError:
            raise Retry("Kafka: the queue of unsent records is full") from None

    def poll(self, timeout_s: float) -> int:
        """Wait at most `timeout_s` for deliveries, report them, and say how many there were."""
        return self._producer.poll(timeout_s)

    def flush(self, timeout_s: float) -> int:
        """Wait until all is delivered, at most `timeout_s`; say how many records are left."""
        return self._producer.flush(timeout_s)


class TransactionalPublisher:
    """Writes outputs and consumed offsets in one Kafka transaction.

    Any error ends the life of the process (crash-only): retrying a transaction in place can hang
    for good after a broker outage, and the next life's `open` aborts what was left open.
    """

    def __init__(self, options: Options, *, transactional_id: str, timeout_ms: int) -> None:
        self._producer = Producer(
            {
                **options,
                **QUIET,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeout_ms,
                # A commit sends at once whatever still waits for company. Until then a request for
                # every few records would be most of a broker's work.
                "linger.ms": 50,
                "socket.nagle.disable": True,
                "partitioner": "murmur2_random",
                "message.max.bytes": 2_097_152,
                "queue.buffering.max.messages": 500_000,
            }
        )

    def open(self, timeout_s: float) -> None:
        """Abort what an earlier life left open and fence it; may block for `timeout_s`.

        Raises:
            Retry: the coordinator did not answer in time, or another life fenced this one.
        """
        with shut_doors_raise_retry("init_transactions"):
            self._producer.init_transactions(timeout_s)

    def begin(self) -> None:
        """Start a transaction."""
        with shut_doors_raise_retry("begin_transaction"):
            self._producer.begin_transaction()

    def write(self, outputs: Iterable[Output]) -> None:
        """Queue outputs into the open transaction; blocks while the queue is full."""
        produce = self._producer.produce
        with shut_doors_raise_retry("produce"):
            for output in outputs:
                if output.headers:
                    self._write(output)
                    continue
                partition = UNASSIGNED if output.partition is None else output.partition
                try:  # by place: to name the arguments takes longer than the client's own work
                    produce(output.topic, output.value, output.key, partition)
                except BufferError:
                    self._write(output)
        self._producer.poll(0)

    def _write(self, output: Output) -> None:
        """Queue an output with all that it has, as soon as there is room."""
        while True:
            try:
                self._producer.produce(
                    output.topic,
                    value=output.value,
                    key=output.key,
                    partition=UNASSIGNED if output.partition is None else output.partition,
                    headers=list(output.headers),
                )
            except BufferError:
                self._producer.poll(BUFFER_FULL_WAIT_S)
            else:
                return

    def commit(
        self, offsets: Mapping[tuple[str, int], int], reader: Member, timeout_s: float
    ) -> None:
        """Commit the outputs together with the group's next offsets.

        Args:
            offsets: per (topic, partition) the offset after the last record handled.
            reader: the member of the group that read them.
            timeout_s: of each of the two calls; librdkafka may overrun it.

        Raises:
            Retry: nothing is known about the transaction; leave.
        """
        positions = [TopicPartition(t, p, offset) for (t, p), offset in sorted(offsets.items())]
        with shut_doors_raise_retry("commit"):
            self._producer.send_offsets_to_transaction(positions, reader.metadata(), timeout_s)
            self._producer.commit_transaction(timeout_s)
