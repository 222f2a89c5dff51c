"""The way out to Kafka: a record is done when every in-sync replica holds it, or it failed."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol

from services.core.errors import Retry
from services.runtime.kafka.publisher import Delivered
from services.runtime.ports import Output

PUMP_S: Final = 0.001
STUCK_S: Final = 2.0
"""A record that waits longer shuts the door until it is delivered or given up."""
PROBE_S: Final = 5.0
PROBE_TIMEOUT_S: Final = 2.0


class Writer(Protocol):
    """What the outbox needs of `runtime.kafka.publisher.Publisher`, whose words hold here too."""

    broken: bool

    def send(self, output: Output, delivered: Delivered) -> None:
        """Queue a record."""

    def poll(self, timeout_s: float) -> int:
        """Report deliveries."""

    def reach(self, topic: str, timeout_s: float) -> None:
        """Return when the cluster answers and has the topic."""

    def flush(self, timeout_s: float) -> int:
        """Wait until all is delivered."""


class Outbox:
    """Delivers records from one event loop, thousands at a time.

    Deliveries are collected by the loop itself, every millisecond while any is expected: a thread
    for it would contend with the loop for the interpreter at every record.
    """

    def __init__(self, publisher: Writer, topic: str, clock: Callable[[], float]) -> None:
        """Begin with nothing under way.

        Args:
            publisher: used by one event loop alone.
            topic: the one that must exist before the outbox is ready.
            clock: monotonic seconds.
        """
        self._publisher, self._topic, self._clock = publisher, topic, clock
        self._waiting: dict[int, float] = {}
        self._number = 0
        self._pumping = False
        self._shut = "Kafka has not answered yet"

    async def deliver(self, output: Output) -> None:
        """Return when every in-sync replica holds the record.

        Raises:
            Retry: it was not delivered in time, or nothing has been for a while, or the queue of
                unsent records is full.
        """
        if self.stuck():
            raise Retry("Kafka: records wait to be delivered")
        if not await self._send(output):
            raise Retry("Kafka: a record was not delivered in time")

    def _send(self, output: Output) -> "asyncio.Future[bool]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._number += 1
        number = self._number

        def delivered(held: bool) -> None:  # noqa: FBT001 - as the publisher calls it
            self._waiting.pop(number)
            self._shut = "" if held else "a record could not be delivered to Kafka"
            if not future.done():  # the sender may have hung up
                future.set_result(held)

        self._publisher.send(output, delivered)
        self._waiting[number] = self._clock()
        if not self._pumping:
            self._pumping = True
            loop.call_later(PUMP_S, self._pump, loop)
        return future

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        self._publisher.poll(0)
        self._pumping = bool(self._waiting)
        if self._pumping:
            loop.call_later(PUMP_S, self._pump, loop)

    @property
    def waiting(self) -> int:
        """How many records are under way."""
        return len(self._waiting)

    def stuck(self) -> bool:
        """Whether a record has waited too long to be delivered."""
        oldest = next(iter(self._waiting.values()), None)
        return oldest is not None and self._clock() - oldest > STUCK_S

    def ready(self) -> tuple[bool, str]:
        """Say whether records get out, and if not, why."""
        if self.stuck():
            return False, "records wait to be delivered to Kafka"
        return not self._shut, self._shut

    async def probe(self) -> None:
        """Ask every few seconds for the topic, so that an idle outbox knows too.

        Raises:
            Retry: the client is broken for good; a new process must take over.
        """
        while not self._publisher.broken:
            with contextlib.suppress(Retry):
                await self.reach()
            await asyncio.sleep(PROBE_S)
        raise Retry("Kafka: the client is broken for good")

    async def reach(self) -> None:
        """Return when Kafka answers and has the topic.

        Raises:
            Retry: it does not answer in time, or has no such topic.
        """
        try:
            await asyncio.to_thread(self._publisher.reach, self._topic, PROBE_TIMEOUT_S)
            self._shut = ""
        except Retry as error:
            self._shut = str(error)
            raise

    def flush(self, timeout_s: float) -> int:
        """Wait for what is under way; say how many records are left. Blocks the loop."""
        return self._publisher.flush(timeout_s)
