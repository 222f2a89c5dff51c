"""Send a stream of messages to the gateway at a pace, with ticks that never run ahead of it."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final
from zlib import crc32

import msgspec

from services.core.errors import CommandError
from services.core.faults import Fault
from services.simulator.delivery import Pace, Sent
from services.simulator.messages import Message, instant
from services.simulator.posting import Door, Given

ACCEPTED: Final = 202
_OK: Final = 200
_NOT_OK: Final = 300
_REPORT_EVERY_S: Final = 0.25
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Span:
    """The messages between two ticks: its own tick goes out when all of them are answered."""

    def __init__(self, end: datetime, sources: frozenset[str]) -> None:
        self.end = end
        self.sources = sources
        self.open = 0
        self.answered = asyncio.Event()
        self.answered.set()

    def opened(self, source: str) -> None:
        self.sources |= {source}
        self.open += 1
        self.answered.clear()

    def closed(self) -> None:
        self.open -= 1
        if not self.open:
            self.answered.set()


async def feed(
    stream: Iterable[Message],
    gateway: str,
    *,
    pace: Pace | None = None,
    stop: asyncio.Event | None = None,
    progress: Callable[[Sent], None] | None = None,
) -> Sent:
    """Send a stream to the gateway and wait until all of it is acknowledged.

    Args:
        stream: messages in order of their time; taken one by one as they are due.
        gateway: the gateway's address.
        pace: how fast; None for as fast as the gateway takes it.
        stop: set it to end early: what was begun is finished, nothing new is begun.
        progress: called a few times a second with the counts so far.

    Returns:
        Exact counts and latencies.

    Raises:
        CommandError: the gateway took nothing for longer than the patience.
    """
    feeder = _Feeder(gateway, pace or Pace(), stop or asyncio.Event(), progress)
    try:
        await feeder.run(stream)
    except* CommandError as failed:
        raise failed.exceptions[0] from None
    finally:
        await feeder.close()
    return feeder.sent


class _Feeder:
    def __init__(
        self,
        gateway: str,
        pace: Pace,
        stop: asyncio.Event,
        progress: Callable[[Sent], None] | None,
    ) -> None:
        self.sent = Sent()
        self._pace = pace
        self._stop = stop
        self._progress = progress
        self._doors = [
            Door(gateway, patience_s=pace.patience_s, stop=stop)
            for _ in range(pace.connections + 1)
        ]
        self._lanes: list[asyncio.Queue[tuple[Message, _Span]]] = [
            asyncio.Queue(maxsize=32) for _ in range(pace.connections)
        ]
        self._ticks: asyncio.Queue[_Span] = asyncio.Queue(maxsize=max(pace.lead, 1))
        self._origin: tuple[float, datetime] | None = None
        self._began_s = self._now_s()
        self._reported_s = 0.0
        self._abandoned = False

    async def run(self, stream: Iterable[Message]) -> None:
        async with asyncio.TaskGroup() as tasks:
            hands = [
                tasks.create_task(self._carry(lane, door))
                for lane, door in zip(self._lanes, self._doors[1:], strict=True)
            ]
            hands.append(tasks.create_task(self._tick(self._doors[0])))
            await self._dispatch(stream)
            await asyncio.gather(*(lane.join() for lane in self._lanes))
            await self._ticks.join()
            for hand in hands:
                hand.cancel()
        self._report(last=True)

    async def close(self) -> None:
        for door in self._doors:
            await door.close()

    async def _dispatch(self, stream: Iterable[Message]) -> None:
        span: _Span | None = None
        last: datetime | None = None
        for message in stream:
            span = span or _Span(self._after(message.time), frozenset())
            while span.end < message.time:
                span = await self._close(span)
            await self._due(message.time)
            if self._stop.is_set():
                self.sent.stopped = True
                return
            span.opened(message.source)
            await self._lanes[crc32(message.lane.encode()) % len(self._lanes)].put((message, span))
            last = message.time
        if span and last:
            # Beyond its last message the source promises nothing.
            span.end = last
            await self._close(span)

    def _after(self, time: datetime) -> datetime:
        """Find the first tick at or after a time."""
        interval = self._pace.interval()
        return _EPOCH - (_EPOCH - time) // interval * interval

    async def _close(self, span: _Span) -> _Span:
        await self._due(span.end)
        if not self._stop.is_set():
            await self._ticks.put(span)
            if not self._pace.lead:
                await self._ticks.join()
        return _Span(span.end + self._pace.interval(), span.sources)

    async def _due(self, time: datetime) -> None:
        if self._pace.speed is None:
            return
        began_s, first = self._origin = self._origin or (self._now_s(), time)
        wait_s = began_s + (time - first).total_seconds() / self._pace.speed - self._now_s()
        if wait_s > 0:
            try:
                await asyncio.wait_for(self._stop.wait(), wait_s)
            except TimeoutError:
                return

    async def _carry(self, lane: "asyncio.Queue[tuple[Message, _Span]]", door: Door) -> None:
        while True:
            message, span = await lane.get()
            try:
                await self._send(message, door)
            except Given:
                self._abandoned = self.sent.stopped = True
            finally:
                span.closed()
                lane.task_done()
            self._report()

    async def _send(self, message: Message, door: Door) -> None:
        if self._abandoned:
            return
        self.sent.sent += 1
        headers = headers_of(message.source, message.time, message.content_type)
        began_s = self._now_s()
        status = await door.post(message.route, message.body, headers)
        self.sent.latencies_ms.append((self._now_s() - began_s) * 1000)
        if status == ACCEPTED:
            self.sent.accepted += 1
            self.sent.entries += message.entries
            self.sent.observations += message.observations
            self.sent.by_route[message.route] += 1
        else:
            self.sent.refused[status] += 1

    async def _tick(self, door: Door) -> None:
        while True:
            span = await self._ticks.get()
            await span.answered.wait()
            try:
                if not self._abandoned:
                    await self._say_time(span, door)
            except Given:
                self._abandoned = self.sent.stopped = True
            finally:
                self._ticks.task_done()

    async def _say_time(self, span: _Span, door: Door) -> None:
        body = msgspec.json.encode({"time": instant(span.end)})
        for source in sorted(span.sources):
            headers = headers_of(source, span.end, "application/json")
            status = await door.post("/ticks", body, headers)
            if not _OK <= status < _NOT_OK:
                raise _tick_refused(status)
            self.sent.ticks += 1
        self.sent.reached = span.end
        self._report()

    def _report(self, *, last: bool = False) -> None:
        now_s = self._now_s()
        self.sent.elapsed_s = now_s - self._began_s
        self.sent.repeated = sum(door.repeated for door in self._doors)
        if self._progress and (last or now_s - self._reported_s > _REPORT_EVERY_S):
            self._reported_s = now_s
            self._progress(self.sent)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def headers_of(source: str, time: datetime, content_type: str) -> dict[str, str]:
    """Give the headers by which a source tells who it is, when it sends, and what."""
    return {"Content-Type": content_type, "Vigil-Source": source, "Vigil-Time": instant(time)}


def _tick_refused(status: int) -> CommandError:
    return CommandError(
        f"The gateway refuses the time that the source sends (answer {status}).",
        "Check that the source's clock is configured as declared and that its time moves on.",
        Fault.TIME_REFUSED,
    )
