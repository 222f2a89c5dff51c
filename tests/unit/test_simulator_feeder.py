"""The feeder against a gateway that is slow, busy, away, or says no."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from answering import Answer, Gateway, gateway

from services.core.errors import CommandError, ExitCode
from services.simulator.delivery import Pace, Sent
from services.simulator.feeder import feed
from services.simulator.messages import OUTCOMES, Message, instant

START = datetime(2026, 1, 5, tzinfo=UTC)


async def taking(path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
    del path, headers, body
    return 202, {}


def message(number: int, *, patient: int = 0, after_s: float = 0.0) -> Message:
    body = json.dumps({"patient": patient, "number": number}).encode()
    time = START + timedelta(seconds=after_s)
    return Message(
        source="west", time=time, lane=str(patient), body=body, entries=3, observations=2
    )


def stream(count: int, *, patients: int = 7, step_s: float = 11.0) -> list[Message]:
    return [message(n, patient=n % patients, after_s=n * step_s) for n in range(count)]


def run(answer: Answer, messages: list[Message], pace: Pace) -> tuple[Sent, Gateway]:
    async def go() -> tuple[Sent, Gateway]:
        async with gateway(answer) as (served, url):
            return await feed(messages, url, pace=pace), served

    return asyncio.run(go())


def by_patient(bodies: list[str]) -> dict[int, list[int]]:
    numbers: dict[int, list[int]] = {}
    for body in bodies:
        read = json.loads(body)
        numbers.setdefault(read["patient"], []).append(read["number"])
    return numbers


def test_every_message_arrives_once_and_is_counted_exactly() -> None:
    sent, served = run(taking, stream(100), Pace())
    assert sorted(served.bodies()) == sorted(m.body.decode() for m in stream(100))
    assert (sent.sent, sent.accepted, sent.entries, sent.observations) == (100, 100, 300, 200)
    assert (sent.repeated, sent.refused, sent.stopped) == (0, {}, False)
    assert len(sent.latencies_ms) == 100


def test_the_headers_name_source_time_and_type() -> None:
    seen: list[tuple[str, str, str]] = []

    async def look(path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        del body
        seen.append((path, headers["vigil-source"], headers["content-type"]))
        return 202, {}

    _, served = run(look, stream(1), Pace())
    assert seen == [
        ("/fhir", "west", "application/fhir+json"),
        ("/ticks", "west", "application/json"),
    ]
    assert served.arrived[0][1] == instant(START)
    assert json.loads(served.arrived[1][2]) == {"time": instant(START)}


def test_what_is_no_fhir_goes_its_own_way_and_has_no_entries() -> None:
    seen: list[tuple[str, str]] = []

    async def look(path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        del body
        seen.append((path, headers["content-type"]))
        return 202, {}

    outcome = Message(
        source="west", time=START, lane="registry", body=b"{}", entries=0, route=OUTCOMES
    )
    sent, _ = run(look, [outcome, message(0)], Pace())
    assert ("/outcomes", "application/json") in seen
    assert (sent.accepted, sent.entries) == (2, 3)
    assert sent.by_route == {"/fhir": 1, "/outcomes": 1}
    assert sent.summary()["by_route"] == {"/fhir": 1, "/outcomes": 1}


def test_a_patients_order_is_kept_by_a_gateway_that_answers_out_of_turn() -> None:
    chance = np.random.default_rng(1)

    async def late(path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        del path, headers, body
        await asyncio.sleep(chance.random() / 300)
        return (202, {}) if chance.random() > 0.2 else (503, {"Retry-After": "0"})

    sent, served = run(late, stream(140), Pace(connections=5))
    assert sent.accepted == 140
    assert sent.repeated > 0
    for numbers in by_patient(served.bodies()).values():
        assert numbers == sorted(numbers)


def test_a_tick_follows_the_answer_to_every_message_up_to_its_time() -> None:
    chance = np.random.default_rng(2)

    async def late(path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        del path, headers, body
        await asyncio.sleep(chance.random() / 300)
        return 202, {}

    messages = stream(200)
    _, served = run(late, messages, Pace(lead=15))
    answered: set[str] = set()
    for path, time, body in served.answered:
        if path == "/fhir":
            answered.add(body.decode())
        else:
            assert {m.body.decode() for m in messages if instant(m.time) <= time} <= answered


def test_ticks_move_forward_once_in_every_minute_of_event_time() -> None:
    sent, served = run(taking, stream(30), Pace())
    ticks = [time for path, time, _ in served.arrived if path == "/ticks"]
    minutes = [instant(START + timedelta(minutes=n)) for n in range(6)]
    assert ticks == [*minutes, instant(START + timedelta(seconds=29 * 11))]
    assert sent.ticks == len(ticks)
    assert sent.reached == START + timedelta(seconds=29 * 11)


def test_without_lead_no_message_passes_an_unacknowledged_tick() -> None:
    _, served = run(taking, stream(60), Pace(lead=0))
    ticked = ""
    for path, time, _ in served.arrived:
        if path == "/ticks":
            ticked = time
        else:
            minute = datetime.fromisoformat(time).replace(second=0, microsecond=0)
            passed = minute if instant(minute) < time else minute - timedelta(minutes=1)
            assert passed < START or ticked >= instant(passed)


def test_each_source_of_a_stream_sends_its_own_time() -> None:
    messages = [
        Message(source=source, time=START + timedelta(minutes=n), lane="1", body=b"1", entries=1)
        for n, source in enumerate(("east", "west", "east"))
    ]
    seen: list[str] = []

    async def look(path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        del body
        seen.extend([headers["vigil-source"]] if path == "/ticks" else [])
        return 202, {}

    run(look, messages, Pace())
    assert seen == ["east", "east", "west", "east", "west"]


def test_below_speed_six_a_source_is_heard_every_ten_real_seconds() -> None:
    assert Pace(speed=1).interval() == timedelta(seconds=10)
    assert Pace(speed=6).interval() == timedelta(minutes=1)
    assert Pace(speed=3600).interval() == timedelta(minutes=1)
    assert Pace().interval() == timedelta(minutes=1)


def test_a_lost_answer_makes_the_same_body_go_again() -> None:
    hung_up: list[bytes] = []

    async def hang_up_once(
        path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str]] | None:
        del path, headers
        if body in hung_up:
            return 202, {}
        hung_up.append(body)
        return None

    sent, served = run(hang_up_once, stream(5), Pace(connections=2))
    assert (sent.sent, sent.accepted) == (5, 5)
    assert sent.repeated == 5 + sent.ticks
    assert len(served.bodies()) == 5


def test_a_gateway_that_comes_late_still_gets_everything() -> None:
    async def go() -> tuple[Sent, list[str]]:
        async with gateway(taking) as (_, url):
            port = int(url.rsplit(":", 1)[1])
        feeding = asyncio.create_task(feed(stream(5), url, pace=Pace()))
        await asyncio.sleep(0)
        async with gateway(taking, port) as (served, _):
            return await feeding, served.bodies()

    sent, bodies = asyncio.run(go())
    assert (sent.accepted, len(bodies)) == (5, 5)


def test_patience_ends_with_a_sentence_that_names_the_gateway() -> None:
    async def busy(path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        del path, headers, body
        return 503, {}

    with pytest.raises(CommandError, match=r"http://127\.0\.0\.1:\d+ took nothing") as failed:
        run(busy, stream(3), Pace(patience_s=0.2))
    assert failed.value.exit_code is ExitCode.UNREACHABLE


def test_a_message_refused_for_good_is_counted_and_the_next_goes_on() -> None:
    async def picky(path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        del path, headers
        return (400 if b'"number": 2}' in body else 202), {}

    sent, served = run(picky, stream(6), Pace())
    assert sent.refused == {400: 1}
    assert (sent.sent, sent.accepted, sent.entries) == (6, 5, 15)
    assert len(served.bodies()) == 5


def test_a_redirect_is_not_followed_with_what_is_said_of_patients() -> None:
    async def go() -> tuple[Sent, Gateway]:
        async with gateway(taking) as (other, elsewhere):

            async def answer(
                path: str, headers: dict[str, str], body: bytes
            ) -> tuple[int, dict[str, str]]:
                del headers, body
                return (307, {"Location": elsewhere + path}) if path == "/fhir" else (200, {})

            async with gateway(answer) as (_, url):
                return await feed(stream(3), url), other

    sent, other = asyncio.run(go())
    assert (sent.refused, other.arrived) == ({307: 3}, [])


def test_requests_share_their_lanes_connection() -> None:
    sent, served = run(taking, stream(100), Pace(connections=4))
    assert (sent.accepted, sent.repeated) == (100, 0)
    assert served.connections <= 4 + 1  # ticks have one of their own


def test_an_address_may_end_with_a_slash() -> None:
    async def go() -> tuple[Sent, Gateway]:
        async with gateway(taking) as (served, url):
            return await feed(stream(3), url + "/"), served

    sent, served = asyncio.run(go())
    assert sent.accepted == 3
    assert {path for path, _, _ in served.arrived} == {"/fhir", "/ticks"}


def test_a_refused_tick_ends_the_feed() -> None:
    async def timeless(
        path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str]]:
        del headers, body
        return (400 if path == "/ticks" else 202), {}

    with pytest.raises(CommandError, match="refuses the time"):
        run(timeless, stream(3), Pace())


def test_a_stop_finishes_what_was_begun_and_begins_nothing_new() -> None:
    async def go() -> tuple[Sent, Gateway]:
        stop = asyncio.Event()

        async def then_stop(
            path: str, headers: dict[str, str], body: bytes
        ) -> tuple[int, dict[str, str]]:
            del path, headers, body
            stop.set()
            return 202, {}

        async with gateway(then_stop) as (served, url):
            return await feed(stream(10_000), url, stop=stop), served

    sent, served = asyncio.run(go())
    assert sent.stopped
    assert 0 < sent.sent == sent.accepted == len(served.bodies()) < 10_000


def test_a_stop_gives_up_on_a_gateway_that_is_away() -> None:
    async def go() -> Sent:
        async with gateway(taking) as (_, url):
            pass
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, stop.set)
        return await feed(stream(100), url, stop=stop)

    sent = asyncio.run(go())
    assert sent.stopped
    assert sent.accepted == 0


def test_event_time_never_outruns_the_chosen_speed() -> None:
    sent, _ = run(taking, stream(4, step_s=10.0), Pace(speed=100))
    assert sent.elapsed_s >= 0.3


def test_progress_ends_with_the_final_counts() -> None:
    async def go() -> list[int]:
        seen: list[int] = []
        async with gateway(taking) as (_, url):
            await feed(stream(50), url, progress=lambda sent: seen.append(sent.accepted))
        return seen

    assert asyncio.run(go())[-1] == 50


def test_the_summary_holds_plain_numbers() -> None:
    sent, _ = run(taking, stream(10), Pace())
    assert json.loads(json.dumps(sent.summary()))["accepted"] == 10
    assert Sent().summary()["post_p99_ms"] == 0.0
