"""Connections of MLLP: frames of bounded length and time, taken one after the other.

A protocol in place of a stream: over a stream, waiting for three bytes takes longer than reading
the message that they frame.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from typing_extensions import override

from services.core.errors import Reason
from services.gateway.hl7v2.frames import END, START, Frames
from services.gateway.reception.body import MAX_BYTES

FRAME_TIMEOUT_S: Final = 30.0
"""A frame that has begun must end within this time, and an answer must be read."""
CUT_OFF: Final = "CONNECTION"

Take = Callable[[bytes, str], Awaitable[bytes]]
"""Gives the answer to a message and the certificate of its sender; never raises."""


class Room:
    """What the connections of a door have in common.

    Attributes:
        take: gives an answer.
        too_large: gives the answer to what is longer than a message may be.
        closed: told why a connection was ended that did not end itself in order.
    """

    def __init__(
        self, take: Take, *, too_large: Callable[[], bytes], closed: Callable[[str], None]
    ) -> None:
        self.take, self.too_large, self.closed = take, too_large, closed
        self.open: set[Connection] = set()


class Connection(asyncio.Protocol):
    """One sender."""

    def __init__(self, room: Room, *, most: int) -> None:
        """Begin; where so many are in the room already it ends at once."""
        self._room, self._most = room, most
        self._frames = Frames(MAX_BYTES)
        self._waiting: deque[bytes] = deque()
        self._conversing: asyncio.Task[None] | None = None
        self._unfinished: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._ending = self._sealed = self._told = False
        self._certificate = ""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire: asyncio.Transport = transport  # type: ignore[assignment]  # of a stream socket
        if len(self._room.open) >= self._most:
            self._close("TOO_MANY")
            return
        self._room.open.add(self)
        tls = transport.get_extra_info("ssl_object")
        self._sealed = tls is not None
        if shown := tls.getpeercert(binary_form=True) if tls else None:
            self._certificate = hashlib.sha256(shown).hexdigest()

    @override
    def data_received(self, data: bytes) -> None:
        found = [] if self._ending else self._frames.cut(data)
        if found:
            self._expect(None)
        self._waiting += found
        if self._conversing:
            self._wire.pause_reading()  # it does not wait for answers: let it
        elif self._waiting or self._frames.broken:
            self._conversing = asyncio.create_task(self._converse())
        elif self._frames.begun and not self._unfinished:
            self._expect(FRAME_TIMEOUT_S)

    def _expect(self, end_in_s: float | None) -> None:
        """Give the sender so long for the rest of a frame; None for as long as it likes."""
        if self._unfinished:
            self._unfinished.cancel()
        loop = asyncio.get_running_loop()
        self._unfinished = loop.call_later(end_in_s, self._cut_off) if end_in_s else None

    async def _converse(self) -> None:
        try:
            await self._answer_all()
        except TimeoutError:
            self._cut_off()
        finally:
            self._conversing = None
        if self._frames.broken:
            self._close(self._frames.broken)
        elif self._ending:
            self._close()
        elif not self._wire.is_closing():
            self._wire.resume_reading()
            if self._frames.begun:
                self._expect(FRAME_TIMEOUT_S)

    async def _answer_all(self) -> None:
        while self._waiting:
            await self._say(await self._room.take(self._waiting.popleft(), self._certificate))
        if self._frames.broken == Reason.TOO_LARGE:
            await self._say(self._room.too_large())

    async def _say(self, answer: bytes) -> None:
        if not self._wire.is_closing():
            self._wire.write(START + answer + END)
        if self._writable:
            async with asyncio.timeout(FRAME_TIMEOUT_S):
                await self._writable

    @override
    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    @override
    def resume_writing(self) -> None:
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    @override
    def eof_received(self) -> bool:
        """Answer what has come before the sender closes its half; TLS has no halves."""
        self._ending = True
        return self._conversing is not None and not self._sealed

    async def finish(self) -> None:
        """End: a message that is being taken is answered first, and no other."""
        self._ending = True
        self._waiting.clear()
        if self._conversing:
            await self._conversing
        self._close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._room.open.discard(self)
        self._expect(None)
        self._waiting.clear()
        self.resume_writing()
        if exc or self._frames.begun:
            self._tell(CUT_OFF)

    def _cut_off(self) -> None:
        self._tell(CUT_OFF)
        self._wire.abort()

    def _close(self, why: str = "") -> None:
        if why:
            self._tell(why)
        self._wire.close()

    def _tell(self, why: str) -> None:
        if not self._told:
            self._room.closed(why)
        self._told = True
