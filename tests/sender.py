"""The hospital's part of a measurement: it posts messages that were made before.

It shares the cores with what is measured, which no hospital's sender does, so it does as little as
can be: a connection writes bytes, and reads no more of an answer than its status.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import msgspec
from typing_extensions import override

from services.simulator.feeder import ACCEPTED, headers_of
from services.simulator.messages import Message, instant

MOST: Final = 1_500
"""So many messages wait for their answer or for their turn; the rest stays where it is."""
AGAIN_S: Final = 0.05
COME_BACK: Final = frozenset({408, 429, 500, 502, 503, 504})
TICK_EVERY_S: Final = 1.0
"""At the speed of a bench a tick for every minute of event time would be load of its own."""
LOOK_S: Final = 0.002
PATIENCE_S: Final = 300.0
END: Final = b"\r\n\r\n"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Answered = Callable[[int], None]
"""Told the status of the last answer."""


class Lane(asyncio.Protocol):
    """A connection: one request after another, each until it is answered for good."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes, Answered]] = deque()
        self._seen = b""
        self.broken = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire: asyncio.Transport = transport  # type: ignore[assignment]  # of a stream socket

    def offer(self, request: bytes, answered: Answered) -> None:
        self._waiting.append((request, answered))
        if len(self._waiting) == 1:
            self._write()

    def _write(self) -> None:
        self._wire.write(self._waiting[0][0])

    @override
    def data_received(self, data: bytes) -> None:
        self._seen += data
        status = status_of(self._seen)
        if status is None:
            return
        self._seen = b""
        if status in COME_BACK:
            asyncio.get_running_loop().call_later(AGAIN_S, self._write)
            return
        _, answered = self._waiting.popleft()
        answered(status)
        if self._waiting:
            self._write()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.broken = True

    def close(self) -> None:
        self._wire.close()


def status_of(answer: bytes) -> int | None:
    """Give the status of an answer; None while it is not whole."""
    head, end, body = answer.partition(END)
    if not end:
        return None
    stated = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return int(head[9:12]) if len(body) >= int(stated or b"0") else None


class Span:
    """The messages before a tick, which goes out when all of them are answered."""

    def __init__(self, end: datetime, sources: set[str]) -> None:
        self.end, self.open, self.sources = end, 0, sources


class Hospital:
    """Sends messages at a speed, and the time of each source behind them.

    Args:
        lanes: connections of messages, each in its order.
        clock: connection of ticks.
        speed: seconds of event time a second; None for as fast as they are taken.
        interval: event time between ticks.
        patience_s: without an answer for good for so long it is given up.
    """

    def __init__(
        self,
        lanes: list[Lane],
        clock: Lane,
        *,
        speed: float | None,
        interval: timedelta,
        patience_s: float,
    ) -> None:
        self._lanes, self._clock = lanes, clock
        self._speed, self._interval, self._patience_s = speed, interval, patience_s
        self._spans: deque[Span] = deque()
        self._under_way = 0
        self.answers: Counter[int] = Counter()

    async def send(self, messages: Iterable[Message]) -> None:
        """Send all and wait for the last answer."""
        loop = asyncio.get_running_loop()
        began, first = loop.time(), None
        for message in messages:
            first = first or message.time
            if self._speed:
                due = began + (message.time - first).total_seconds() / self._speed
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
            await self._fewer_than(MOST)
            self._offer(message)
        # Beyond its last message a source promises nothing.
        self._spans[-1].end = message.time
        self._begin(message.time)
        await self._fewer_than(1)

    def _offer(self, message: Message) -> None:
        if not self._spans or self._spans[-1].end < message.time:
            self._begin(EPOCH - (EPOCH - message.time) // self._interval * self._interval)
        span = self._spans[-1]
        span.open += 1
        span.sources.add(message.source)
        self._under_way += 1

        def answered(status: int) -> None:
            self.answers[status] += 1
            self._under_way -= 1
            span.open -= 1
            self._tell_time()

        headers = headers_of(message.source, message.time, message.content_type)
        lane = self._lanes[int(message.lane) % len(self._lanes)]
        lane.offer(request(message.route, message.body, headers), answered)

    def _begin(self, end: datetime) -> None:
        """Begin what comes before another tick: whoever was heard once is told of in each."""
        heard = self._spans[-1].sources if self._spans else set[str]()
        self._spans.append(Span(end, set(heard)))
        self._tell_time()

    def _tell_time(self) -> None:
        """Send the ticks of spans that came to their end; the last one is still filled."""
        while len(self._spans) > 1 and not self._spans[0].open:
            span = self._spans.popleft()
            body = msgspec.json.encode({"time": instant(span.end)})
            for source in sorted(span.sources):
                self._under_way += 1
                headers = headers_of(source, span.end, "application/json")
                self._clock.offer(request("/ticks", body, headers), self._heard)

    def _heard(self, status: int) -> None:
        assert status == ACCEPTED, f"the time was answered with {status}"
        self._under_way -= 1

    async def _fewer_than(self, many: int) -> None:
        clock = asyncio.get_running_loop().time
        since, seen = clock(), self._under_way
        while self._under_way >= many:
            assert not any(lane.broken for lane in (*self._lanes, self._clock)), "the door is shut"
            if self._under_way != seen:
                since, seen = clock(), self._under_way
            assert clock() - since < self._patience_s, f"no answer for {self._patience_s} s"
            await asyncio.sleep(LOOK_S)


def request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    told = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\n{told}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def post(
    messages: Iterable[Message],
    gateway: str,
    *,
    lanes: int,
    speed: float | None,
    hours: float,
    patience_s: float = PATIENCE_S,
) -> Counter[int]:
    """Send messages to a gateway, and give its answers by status.

    Args:
        messages: in order of their time; the lane of each is a number.
        gateway: its address.
        lanes: connections.
        speed: seconds of event time a second; None for as fast as they are taken.
        hours: event time between the first message and the last.
        patience_s: without an answer for good for so long it is given up.

    Raises:
        AssertionError: the gateway went away, or answered nothing for good.
    """
    host, _, port = urlsplit(gateway).netloc.partition(":")
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(Lane, host, int(port)) for _ in range(lanes + 1)]
    clock, *rest = [lane for _, lane in made]
    interval = timedelta(seconds=speed * TICK_EVERY_S) if speed else timedelta(hours=hours)
    hospital = Hospital(rest, clock, speed=speed, interval=interval, patience_s=patience_s)
    try:
        await hospital.send(messages)
    finally:
        for lane in (clock, *rest):
            lane.close()
    return hospital.answers
