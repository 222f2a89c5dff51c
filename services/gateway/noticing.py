"""What the gateway sees of a source, told where signals are made: each change once, durably."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
import structlog

from services.core.errors import Retry
from services.core.events import Notice
from services.runtime.ports import Output

NOTICES: Final = "notices.v1"
LOOK_EVERY_S: Final = 1.0

Deliver = Callable[[Output], Awaitable[None]]
Stands = Mapping[tuple[str, str], int]
"""By matter and source, how many subscriptions it concerns."""
log = structlog.stdlib.get_logger()


class Noticing:
    """Writes notices; used by one event loop."""

    def __init__(
        self,
        deliver: Deliver,
        encode: Callable[[msgspec.Struct], bytes],
        clock: Callable[[], int],
        partitions: Mapping[str, int],
    ) -> None:
        """Begin; nothing was told yet.

        Args:
            deliver: returns when a record is durable; raises Retry where it cannot be.
            encode: makes a record's value of an event.
            clock: the real clock, µs since the epoch.
            partitions: of NOTICES, filled when the topic is known to exist: a record that no
                topic takes would stand in the way of those of patients.
        """
        self._deliver, self._encode, self._clock = deliver, encode, clock
        self._partitions = partitions
        self._told: dict[tuple[str, str], int] = {}

    async def happened(self, matter: str, source: str, at: int) -> None:
        """Tell that something happened at a source, at a time, µs; raises Retry."""
        await self._write(Notice(kind=matter, source=source, at=at))

    async def tell(self, stands: Stands) -> None:
        """Tell what stands otherwise than it was told last; what cannot be told waits."""
        for (matter, source), count in stands.items():
            if self._told.get((matter, source)) == count:
                continue
            try:
                await self._write(
                    Notice(kind=matter, source=source, at=self._clock(), count=count)
                )
            except Retry:
                return
            self._told[matter, source] = count

    async def watch(self, look: Callable[[], Stands]) -> None:
        """Tell what stands, again and again, for ever."""
        why = ""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.tell(look())
            except Exception as error:  # noqa: BLE001 - what is wrong now may be well in a second
                because = type(error).__name__
                if because != why:  # an outage is told once
                    log.error("not told", because=because)  # noqa: TRY400 - no values
                why = because
            else:
                if why:
                    log.info("told again")
                why = ""

    async def _write(self, notice: Notice) -> None:
        if not self._partitions:
            raise Retry(f"Kafka: it is not known yet that there is a topic {NOTICES}")
        await self._deliver(Output(NOTICES, notice.source.encode(), self._encode(notice)))
