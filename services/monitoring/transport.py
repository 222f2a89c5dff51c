"""Faust's transport, made to read committed records only and to commit what was acknowledged.

Stock Faust 0.15.3 delivers records of aborted transactions, and on a topic written by transactions
its commits advance by about one transaction per interval (its issue #606): a crash then reads
nearly everything again. And it spends on each record several times what counting one takes: so a
message of Faust's is a run of records here, as many as one reading brought of a partition.

What is overridden here is private, so `check_pins` compares the source of every method that this
rests on with what it was when this was proved.
"""

import hashlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import aiokafka  # type: ignore[import-untyped]  # it has no stubs
import faust
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # the same
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message
from typing_extensions import override

from services.core.errors import CommandError
from services.core.faults import Fault

FETCH_WAIT_MS: Final = 500
FETCH_BYTES: Final = 1 << 20
"""For which a broker waits so long: nobody waits for a window of hours, and what comes together
is counted together."""
RUN_RECORDS: Final = 100
"""So many records are handled before anything else gets its turn."""
RETRY_S: Final = 0.2


class CommittedThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka reads; committed records only."""

    @override
    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - no setting leads here
        # aiokafka asks a broker one thing at a time: a question about partitions that are idle
        # keeps it from asking about busy ones, for the 1.5 s that Faust has it wait. And a broker
        # that is asked for little works as hard as one that is asked for much.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - nor here
        consumer._fetch_min_bytes = FETCH_BYTES  # noqa: SLF001 - nor here
        return consumer


class CommittedConsumer(driver.Consumer):
    """Knows which offsets are no records, and acknowledges nothing that was not processed."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._moved = False

    @override
    def _new_consumer_thread(self) -> CommittedThread:
        return CommittedThread(self, loop=self.loop, beacon=self.beacon)

    @override
    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # The caller's end is the record it just received: taken for a gap, that offset would count
        # as acknowledged before it was processed, and again afterwards.
        await super()._add_gap(tp, offset_from, offset_to - 1)

    @override
    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        generation, moving = self.app.consumer_generation_id, self.app.rebalancing
        self._moved |= moving
        if self._moved and not moving and not await self._began_anew():
            return
        async for tp, message in super().getmany(timeout):
            if self.app.rebalancing or moving or self.app.consumer_generation_id != generation:
                self._moved = True
                continue
            if self._read_offset.get(tp) == 0 and message.offset > 1:
                await self._add_gap(tp, 1, message.offset)  # Faust sees no gap behind offset 0
            yield tp, message

    @override
    async def _getmany(
        self, active_partitions: set[TP] | None, timeout: float
    ) -> dict[TP, list[Any]]:
        found = await super()._getmany(active_partitions, timeout)
        return {tp: runs(records) for tp, records in found.items()}

    @override
    def _to_message(self, tp: TP, record: Sequence[Any]) -> ConsumerMessage:
        # By its last offset: those before it are a gap to Faust, which is acknowledged with it.
        message = super()._to_message(tp, record[-1])
        message.run = record  # type: ignore[attr-defined]  # Faust has no name for it
        return message

    async def _began_anew(self) -> bool:
        """Go back to what is committed, once partitions have moved and all is restored.

        Faust resumes partitions before it seeks: in between it hands on what lies at positions of
        before, ahead of what is read again afterwards. So nothing that was fetched while
        partitions moved is handed on, and reading starts here.

        Returns:
            Whether it could be done.
        """
        try:
            if self.assignment():
                await self.perform_seek()
        except KafkaError as error:
            # They move again, or the broker is away: the next call tries again.
            self.log.warning("committed offsets were not reached: %s", type(error).__name__)
            await self.sleep(RETRY_S)
            return False
        self._moved = False
        return True

    @override
    async def perform_seek(self) -> None:
        """Go back to what is committed, and where nothing is yet, to the beginning.

        Faust drops what it has fetched already. It counts on this call to read that again, but
        aiokafka seeks only where an offset is committed: what nobody had committed was never seen.
        """
        await super().perform_seek()
        fresh = [tp for tp in self.assignment() if not self._committed_offset.get(tp)]
        if fresh:
            for tp, beginning in (await self.earliest_offsets(*fresh)).items():
                await self.seek(tp, beginning)

    @override
    def ack(self, message: Message) -> bool:
        """Acknowledge a message of the present assignment.

        Faust also acknowledges what it skips while partitions move: those were not processed.
        """
        holds = cast("CommittedApp", self.app).holds
        return holds(message) and self.app.flow_control.is_active() and super().ack(message)


def runs(records: Sequence[Any]) -> list[Sequence[Any]]:
    """Cut what was read of a partition into runs of RUN_RECORDS."""
    return [records[at : at + RUN_RECORDS] for at in range(0, len(records), RUN_RECORDS)]


def run_of(message: Message) -> Sequence[Any]:
    """Give the records, as aiokafka has them, that a message stands for."""
    return cast("Sequence[Any]", message.run)  # type: ignore[attr-defined]  # as above


class CommittedTransport(driver.Transport):
    """Reads by `CommittedConsumer`."""

    Consumer = CommittedConsumer  # type: ignore[mutable-override]  # Faust's way to say it


class CommittedApp(faust.App):
    """A Faust app on `CommittedTransport`, without a table of Faust's own."""

    def holds(self, message: Message) -> bool:
        """Say whether a message was read in the assignment that stands; no other may count."""
        return not self.rebalancing and message.generation_id == self.consumer_generation_id

    @override
    def _new_transport(self) -> CommittedTransport:
        return CommittedTransport(self.conf.broker_consumer, self)

    @override
    def _create_directories(self) -> None:
        """Make none: nothing is written there."""


async def append(
    app: faust.App, topic: str, partition: int, rows: Iterable[tuple[bytes, bytes | None]]
) -> list[Awaitable[object]]:
    """Append rows to a partition in as few record batches as they fit into, mostly one.

    A broker appends a batch whole or not at all, and hands it out so: whoever reads the partition
    to its end finds all of its rows or none.

    Returns:
        What to wait for.
    """
    maker = await app.maybe_start_producer()
    if not isinstance(maker, driver.Producer):
        raise TypeError("the app has another transport")
    producer = maker._ensure_producer()  # noqa: SLF001 - Faust itself sends record by record
    batch, promises = producer.create_batch(), []
    for key, value in rows:
        if batch.append(timestamp=None, key=key, value=value) is None:
            promises.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(timestamp=None, key=key, value=value)
    batch.close()
    return [*promises, await producer.send_batch(batch, topic, partition=partition)]


def delivered(app: faust.App, tp: TP) -> int | None:
    """Say which offset of a partition was handed to the agents last; None where none was."""
    consumer = app.consumer
    if not isinstance(consumer, CommittedConsumer):
        return None
    return consumer._read_offset.get(tp)  # noqa: SLF001 - Faust shows it nowhere else


PROVED: Final[Mapping[tuple[type, str], str]] = {
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer"): "c2701bfc3e6f6cad",
    (aiokafka.AIOKafkaConsumer, "start"): "2f1ba70443327538",
    (driver.Consumer, "_drain_messages"): "44a2500309e83c63",
    (driver.Consumer, "_add_gap"): "4df2573ded7c1c2c",
    (driver.Consumer, "getmany"): "4b168d84882a70d6",
    (driver.Consumer, "_getmany"): "f9d47aa9010b5ff2",
    (driver.Consumer, "_to_message"): "7c24f6511b2fcef7",
    (driver.Consumer, "perform_seek"): "0e8c130ff4b0afd8",
    (aiokafka.AIOKafkaConsumer, "seek_to_committed"): "f6cd85c8b70a4ccf",
    (driver.Consumer, "ack"): "5fcf41cf45153475",
    (driver.Consumer, "_new_offset"): "1d2c7ea89a7ad4f1",
    (Recovery, "_resume_streams"): "d986a6710c1aca98",
}
"""What is overridden here, or calls that, by the sha256 of its source (16 digits)."""


def check_pins(proved: Mapping[tuple[type, str], str] = PROVED) -> None:
    """Compare the libraries that are installed with those that this transport was proved on.

    Raises:
        CommandError: one of them differs.
    """
    for (owner, name), digest in proved.items():
        source = inspect.getsource(getattr(owner, name)).encode()
        if not hashlib.sha256(source).hexdigest().startswith(digest):
            raise CommandError(
                f"{owner.__name__}.{name} of {owner.__module__} is not what this was proved on.",
                "Install faust-streaming==0.15.3 and aiokafka==0.14.0, or prove it again by "
                "tests/wire/test_monitoring_transport.py and note its digest in transport.py.",
                Fault.TRANSPORT,
            )
