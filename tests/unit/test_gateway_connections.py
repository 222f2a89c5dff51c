"""Frames are the same however they are cut; a connection is answered in order, and in time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import Reason
from services.gateway import connections
from services.gateway.connections import Connection, Room
from services.gateway.hl7v2.frames import END, MOST_BETWEEN, START, Frames
from services.gateway.reception.body import MAX_BYTES

MOST = 40
BODY = st.binary(max_size=MOST).filter(lambda body: END not in body and not body.endswith(b"\x1c"))
GAP = st.integers(0, MOST_BETWEEN).flatmap(
    lambda many: st.text("\r\n", min_size=many, max_size=many).map(str.encode)
)
DEADLINE_S = 120.0


def cut(frames: Frames, data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [body for begin, end in pairwise(places) for body in frames.cut(data[begin:end])]


@given(st.lists(st.tuples(GAP, BODY), max_size=6), st.lists(st.integers(0)), GAP)
def test_messages_are_found_in_order_wherever_what_comes_is_cut(
    said: list[tuple[bytes, bytes]], at: list[int], rest: bytes
) -> None:
    frames = Frames(MOST)
    data = b"".join(gap + START + body + END for gap, body in said)
    assert cut(frames, data + rest, at) == [body for _, body in said]
    assert (frames.broken, frames.begun) == ("", False)


@given(st.binary(max_size=200), st.lists(st.integers(0)))
def test_whatever_comes_is_cut_alike_and_breaks_alike(data: bytes, at: list[int]) -> None:
    whole, pieces = Frames(MOST), Frames(MOST)
    noise = data.replace(b"a", START).replace(b"b", END).replace(b"c", b"\r")
    assert cut(pieces, noise, at) == whole.cut(noise)
    assert (pieces.broken, pieces.begun) == (whole.broken, whole.begun)


@given(BODY, BODY, st.lists(st.integers(0)))
def test_a_message_that_is_too_long_ends_the_row_and_those_before_it_are_taken(
    first: bytes, last: bytes, at: list[int]
) -> None:
    frames = Frames(MOST)
    data = START + first + END + START + b"x" * (MOST + 1) + END + START + last + END
    assert cut(frames, data, at) == [first]
    assert frames.broken == Reason.TOO_LARGE


class Door:
    """A door on loopback whose answers are the messages, once they may be given."""

    def __init__(self, most: int = 10) -> None:
        self.closed: list[str] = []
        self.taken: list[bytes] = []
        self.most = most
        self.open, self.heard, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.open.set()
        self.room = Room(self._take, too_large=lambda: b"too large", closed=self._closed)

    async def _take(self, body: bytes, _: str) -> bytes:
        self.taken.append(body)
        self.heard.set()
        await self.open.wait()
        return body

    def _closed(self, why: str) -> None:
        self.closed.append(why)
        self.ended.set()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self.room, most=self.most), "127.0.0.1"
        )
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                yield reader, writer
            finally:
                writer.transport.abort()
                await asyncio.gather(*(connection.finish() for connection in self.room.open))


Talk = Callable[[Door, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def tried(talk: Talk, most: int = 10) -> None:
    async def bounded() -> None:
        door = Door(most)
        async with asyncio.timeout(DEADLINE_S), door.connected() as (reader, writer):
            await talk(door, reader, writer)

    asyncio.run(bounded())


def framed(*bodies: bytes) -> bytes:
    return b"".join(START + body + END for body in bodies)


async def ends(reader: asyncio.StreamReader) -> bytes:
    """Give the rest of what comes; a reset is an end too."""
    told = b""
    with contextlib.suppress(ConnectionError):
        while more := await reader.read(1 << 16):
            told += more
    return told


def test_answers_come_in_order_to_a_sender_that_does_not_wait_and_then_hangs_up() -> None:
    bodies = [b"%d" % n for n in range(50)]

    async def talk(door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        door.open.clear()
        writer.write(framed(*bodies))
        writer.write_eof()
        await door.heard.wait()
        assert door.taken == bodies[:1]
        door.open.set()
        assert await ends(reader) == framed(*bodies)
        assert not door.closed

    tried(talk)


def test_a_door_that_closes_answers_what_it_has_begun_and_nothing_else() -> None:
    async def talk(door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        door.open.clear()
        writer.write(framed(b"1", b"2"))
        await door.heard.wait()
        ending = asyncio.gather(*(connection.finish() for connection in door.room.open))
        door.open.set()
        await ending
        assert await ends(reader) == framed(b"1")
        assert door.taken == [b"1"]

    tried(talk)


def test_a_message_too_long_is_answered_and_ends_the_connection() -> None:
    async def talk(door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(framed(b"1", b"x" * (MAX_BYTES + 1)))
        assert await ends(reader) == framed(b"1", b"too large")
        assert door.taken == [b"1"]
        assert door.closed == [Reason.TOO_LARGE]

    tried(talk)


@pytest.mark.parametrize("sent", [START + b"MSH", framed(b"1") + START])
def test_a_frame_that_does_not_end_in_time_ends_the_connection(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FRAME_TIMEOUT_S", 0.01)

    async def talk(door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await ends(reader)
        await door.ended.wait()
        assert door.closed == ["CONNECTION"]

    tried(talk)


def test_one_connection_more_than_there_may_be_is_ended_at_once() -> None:
    async def talk(door: Door, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        assert await ends(reader) == b""
        assert door.closed == ["TOO_MANY"]

    tried(talk, most=0)


def test_a_sender_that_reads_no_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FRAME_TIMEOUT_S", 0.05)

    async def talk(door: Door, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while not door.closed:  # its answers fill the buffers of both sides
                writer.write(framed(b"x" * 500_000))
                await writer.drain()
        await door.ended.wait()
        assert door.closed == ["CONNECTION"]

    tried(talk)
