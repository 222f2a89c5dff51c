"""What the benches send with keeps the order of each lane, and tells the time behind it."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from answering import Answer, gateway
from hypothesis import given, settings
from hypothesis import strategies as st
from sender import post

from services.simulator.messages import Message

START = datetime(2026, 1, 5, tzinfo=UTC)
SPAN_S = 40
REFUSED = 400


def sent(messages: list[Message], answer: Answer, *, patience_s: float = 60) -> Counter[int]:
    """Send messages to a gateway; give its answers by status."""

    async def go() -> Counter[int]:
        async with gateway(answer) as (_, url):
            # At this speed all is over at once, and ticks are SPAN_S of event time apart.
            hours = SPAN_S / 3600
            return await post(
                messages, url, lanes=3, speed=None, hours=hours, patience_s=patience_s
            )

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
    asked, told = set[int](), list[tuple[str, str, bytes]]()

    async def answer(
        path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str]]:
        number = json.loads(body).get("number", -1)
        if path != "/ticks" and number in busy - asked:
            asked.add(number)
            return 503, {}
        told.append((path, headers["vigil-source"], body))
        return REFUSED if number in bad else 202, {}

    answers = sent(messages, answer)
    numbers = {number for number in bad if number < len(messages)}
    assert (answers[202], answers[REFUSED]) == (len(messages) - len(numbers), len(numbers))

    lanes: dict[int, list[int]] = {}
    waiting = {m.body: m.time for m in messages}
    heard: dict[datetime, set[str]] = {}
    for path, source, body in told:
        read = json.loads(body)
        if path == "/ticks":
            time = datetime.fromisoformat(read["time"])
            assert all(at > time for at in waiting.values()), "a tick ran ahead"
            heard.setdefault(time, set()).add(source)
        else:
            del waiting[body]  # each once
            lanes.setdefault(read["lane"], []).append(read["number"])
    assert not waiting
    assert all(found == sorted(found) for found in lanes.values())
    assert max(heard) == messages[-1].time
    for time, sources in heard.items():
        assert sources == {m.source for m in messages if m.time <= time}


def test_a_door_that_shuts_is_told_and_nobody_waits_for_it() -> None:
    async def hang_up(path: str, headers: dict[str, str], body: bytes) -> None:
        del path, headers, body

    with pytest.raises(AssertionError, match="shut"):
        sent([message(0, 0, 0)], hang_up)


def test_a_gateway_that_is_always_busy_is_given_up() -> None:
    async def busy(path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        del path, headers, body
        return 503, {}

    with pytest.raises(AssertionError, match="no answer"):
        sent([message(0, 0, 0)], busy, patience_s=0.3)
