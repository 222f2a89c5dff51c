"""Where records wait while Kafka is away: on the disk, in order, until Kafka holds each once.

While Kafka answers, records go straight to it. Once it does not, every record goes to the journal
first, later ones too, until all of it is written: so nothing overtakes what waits.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol

import msgspec
import structlog

from services.core.errors import Retry, Stop
from services.gateway.journal import Journal
from services.gateway.outbox import Outbox
from services.runtime.ports import Output

LOOK_EVERY_S: Final = 0.1
SHIPMENT_BYTES: Final = 2 << 20
TURN_S: Final = 1.0
"""Senders are held up so long at most while the last records on the disk are written."""
TURN_AGAIN_S: Final = 10.0
HUNG_S: Final = 60.0
"""A shipment that takes longer never ends: the client is stuck, and a new process takes over."""

_OUTPUT: Final = msgspec.msgpack.Decoder(Output)

log = structlog.stdlib.get_logger()


class Shipment(Protocol):
    """One life of `runtime.kafka.shipping.Shipper`, whose words hold here too."""

    def open(self) -> int:
        """Give the number after the last record that is written."""

    def ship(self, outputs: Sequence[Output], through: int) -> None:
        """Write records, all or none."""

    def close(self) -> None:
        """Leave the cluster."""


class Depot:
    """Delivers records by way of Kafka or the disk; used by one event loop."""

    def __init__(
        self,
        outbox: Outbox,
        journal: Journal,
        make_shipment: Callable[[str], Shipment],
        *,
        most_bytes: int,
    ) -> None:
        """Begin with what an earlier life left.

        Args:
            outbox: the straight way.
            journal: the records on disk.
            make_shipment: begins to write what is kept, under a name.
            most_bytes: the journal may hold.
        """
        self._outbox, self._journal = outbox, journal
        self._make_shipment, self._most_bytes = make_shipment, most_bytes
        # One thread has the journal; its order is that of the calls.
        self._disk = ThreadPoolExecutor(1, "outbox")
        self._keeping = True  # until Kafka has answered
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._pending_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
        self._turning: asyncio.Future[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._next_turn = 0.0
        self._written = journal.first
        self.kept_bytes, self.kept = journal.size, journal.next - journal.first

    async def deliver(self, output: Output) -> None:
        """Return when the record is durable: in Kafka, or on the disk while Kafka is away.

        Raises:
            Retry: it is in neither for certain; with a full or failing disk, for certain in none.
        """
        while self._turning:
            await asyncio.shield(self._turning)
        if self._keeping or not self._outbox.ready()[0]:
            self._keeping = True
            await self._keep(msgspec.msgpack.encode(output))
        else:
            await self._outbox.deliver(output)

    @property
    def straight(self) -> bool:
        """Whether records go straight to Kafka."""
        return not self._keeping

    def ready(self) -> tuple[bool, str]:
        """Say whether records are taken, and if not, why."""
        if self._keeping and self._full(0):
            return False, "Kafka is away and the outbox is full"
        return True, ""

    def _full(self, more: int) -> bool:
        return self.kept_bytes + self._pending_bytes + more > self._most_bytes

    async def _keep(self, plain: bytes) -> None:
        if self._full(len(plain)):
            raise Retry("Kafka is away and the outbox is full")
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((plain, kept))
        self._pending_bytes += len(plain)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await kept

    async def _flush(self) -> None:
        """Write what waits, again and again: whoever comes meanwhile shares the next write."""
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                await self._write(batch)
        finally:
            self._flushing = None

    async def _write(self, batch: list[tuple[bytes, "asyncio.Future[None]"]]) -> None:
        loop, failure = asyncio.get_running_loop(), None
        try:
            await loop.run_in_executor(
                self._disk, self._journal.append, [plain for plain, _ in batch]
            )
        except Exception as error:  # noqa: BLE001 - whatever happened, every sender gets an answer
            failure = Retry(f"the outbox cannot be written ({type(error).__name__})")
        self._pending_bytes -= sum(len(plain) for plain, _ in batch)
        self._count()
        for _, kept in batch:
            if kept.done():  # the sender may have hung up
                continue
            if failure:
                kept.set_exception(failure)
            else:
                kept.set_result(None)

    def _count(self) -> None:
        self.kept_bytes = self._journal.size
        self.kept = self._journal.next - self._written

    async def drain(self) -> None:
        """Write what is kept whenever Kafka answers, for ever.

        Raises:
            Stop: the disk has lost what Kafka knows of.
            TimeoutError: the client is stuck; only a new process can go on.
        """
        why = ""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._keeping or self._outbox.stuck():
                continue
            try:
                await self._outbox.reach()
                await self._empty()
            except Retry as error:
                if why != str(error):  # an outage is told once
                    log.warning("keeping", because=str(error), records=self.kept)
                why = str(error)
            else:
                why = ""

    async def _empty(self) -> None:
        """Write all there is, then let records go straight again."""
        if not self.kept:
            self._go_straight()
            return
        shipment = await asyncio.to_thread(self._make_shipment, f"vigil-{self._journal.name}")
        try:
            await self._ship_all(shipment)
            self._go_straight()
        finally:
            self._turned()
            await asyncio.to_thread(shipment.close)

    def _go_straight(self) -> None:
        self._keeping = bool(self.kept or self._pending or self._flushing)

    def _turn(self) -> None:
        """Hold up whoever comes: else senders that never pause would keep the disk in use."""
        loop = asyncio.get_running_loop()
        if self._turning is None and loop.time() >= self._next_turn:
            self._turning = loop.create_future()
            self._patience = loop.call_later(TURN_S, self._give_up_turn, loop)

    def _give_up_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next_turn = loop.time() + TURN_AGAIN_S
        self._turned()

    def _turned(self) -> None:
        if self._turning and self._patience:
            self._patience.cancel()
            self._turning.set_result(None)
            self._turning = None

    async def _ship_all(self, shipment: Shipment) -> None:
        self._written = max(await _in_time(shipment.open), self._journal.first)
        if self._written > self._journal.next:
            raise Stop("the outbox has lost records: its folder is older than Kafka's knowledge")
        while True:
            await self._on_disk(self._journal.forget, self._written)
            self._count()
            if self._turning and self._flushing:
                await self._flushing
            if not self.kept:
                return
            plain = await self._on_disk(
                partial(self._journal.read, self._written, most_bytes=SHIPMENT_BYTES)
            )
            if self._written + len(plain) == self._journal.next:
                self._turn()
            outputs = [_OUTPUT.decode(body) for body in plain]
            await _in_time(shipment.ship, outputs, self._written + len(outputs))
            self._written += len(outputs)

    async def _on_disk(self, do: Callable[..., Any], *given: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._disk, do, *given)
        except OSError as error:
            raise Retry(f"the outbox cannot be read ({error.strerror})") from None

    async def close(self) -> None:
        """Write what waits, and let another process have the folder."""
        if self._flushing:
            await self._flushing
        await self._on_disk(self._journal.close)
        self._disk.shutdown()


async def _in_time(do: Callable[..., Any], *given: Any) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(do, *given), HUNG_S)
