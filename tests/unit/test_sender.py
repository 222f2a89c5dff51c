"""What the benches send with keeps the order of each lane, and tells the time behind it."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sender import post

from services.simulator.messages import Message, instant

START = datetime(2026, 1, 5, tzinfo=UTC)
SPAN_S = 40
REFUSED = 400
Answer = Callable[[str, dict[str, str], bytes], int]


class Gateway:
    """Answers as it is told to, an answer in two packets, and notes what it took or refused."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.told: list[tuple[str, str, bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._one(reader, writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        path = first.split(" ")[1]
        status = self._answer(path, headers, body)
        if status in {202, REFUSED}:
            self.told.append((path, headers["vigil-source"], body))
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n".encode())
        await asyncio.sleep(0)
        writer.write(b"{}")


def sent(messages: list[Message], answer: Answer, *, lanes: int = 3) -> tuple[Gateway, int, int]:
    """Send messages; give the gateway, how many it took and how many it refused."""

    async def go() -> tuple[Gateway, int, int]:
        gateway = Gateway(answer)
        server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        # At this speed all is over at once, and ticks are SPAN_S of event time apart.
        posting = post(messages, url, lanes=lanes, speed=None, hours=SPAN_S / 3600)
        answers = await posting
        server.close()
        return gateway, answers[202], answers[REFUSED]

    return asyncio.run(go())


def message(number: int, lane: int, after_s: float) -> Message:
    body = json.dumps({"number": number, "lane": lane}).encode()
    time = START + timedelta(seconds=after_s)
    source = ("east", "west")[lane % 2]
    return Message(source=source, time=time, lane=str(lane), body=body, entries=1)


def streams() -> st.SearchStrategy[list[Message]]:
    steps = st.tuples(st.integers(0, 5), st.sampled_from([0, 0.5, 11, 90]))

    def made(found: list[tuple[int, float]]) -> list[Message]:
        at, messages = 0.0, []
        for number, (lane, step_s) in enumerate(found):
            at += step_s
            messages.append(message(number, lane, at))
        return messages

    return st.lists(steps, min_size=1, max_size=40).map(made)


@settings(deadline=None, max_examples=40)
@given(streams(), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_all_is_answered_in_order_and_the_time_comes_behind_it(
    messages: list[Message], busy: set[int], bad: set[int]
) -> None:
    asked: set[int] = set()

    def answer(path: str, _: dict[str, str], body: bytes) -> int:
        number = json.loads(body).get("number", -1)
        if path != "/ticks" and number in busy - asked:
            asked.add(number)
            return 503
        return REFUSED if number in bad else 202

    gateway, taken, refused = sent(messages, answer)
    numbers = {number for number in bad if number < len(messages)}
    assert (taken, refused) == (len(messages) - len(numbers), len(numbers))

    times = {m.body: m.time for m in messages}
    lanes: dict[int, list[int]] = {}
    waiting, heard = dict(times), set[str]()
    for path, source, body in gateway.told:
        read = json.loads(body)
        if path == "/ticks":
            time = read["time"]
            assert all(instant(at) > time for at in waiting.values()), "a tick ran ahead"
            heard.add(source)
        else:
            del waiting[body]  # each once
            lanes.setdefault(read["lane"], []).append(read["number"])
    assert not waiting
    assert all(found == sorted(found) for found in lanes.values())
    assert heard == {m.source for m in messages}
    last = [json.loads(body)["time"] for path, _, body in gateway.told if path == "/ticks"]
    assert max(last) == instant(messages[-1].time)


def test_a_door_that_shuts_is_told_and_nobody_waits_for_it() -> None:
    async def go() -> None:
        def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(AssertionError, match="shut"):
            await post([message(0, 0, 0)], url, lanes=1, speed=None, hours=1)
        server.close()

    asyncio.run(go())
