import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from doors import BUILD, CODEC, RESOURCE, Gateway, diagnostics, nothing

from services.core.errors import Retry
from services.core.events import Feedback
from services.gateway.app import make_app
from services.gateway.outbox import STUCK_S, Outbox
from services.gateway.reception.body import MAX_BYTES
from services.gateway.reception.credentials import Source
from services.gateway.reception.desk import Desk
from services.gateway.reception.hearing import Hearing
from services.gateway.reception.sources import Sources
from services.local.home import REPO
from services.runtime.kafka.publisher import Delivered
from services.runtime.ports import Output
from services.runtime.telemetry.health import Health

EXAMPLES = sorted((REPO / "schemas/examples/fhir.raw.v1").glob("[!t]*.json"))


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def test_a_stored_message_is_answered_with_its_id(gateway: Gateway) -> None:
    response = gateway.post()
    assert response.status_code == 202
    (record,) = gateway.log
    assert record.value == RESOURCE
    assert response.json() == {"ingest_id": dict(record.headers)["ingest_id"].decode()}  # type: ignore[union-attr]  # it has one


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_of_the_topic_come_in(gateway: Gateway, path: Any) -> None:
    body = json.dumps(json.loads(path.read_text())["value"]).encode()
    assert gateway.post(body).status_code == 202


def test_nothing_is_answered_202_that_was_not_stored(gateway: Gateway) -> None:
    gateway.away = True
    response = gateway.post()
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert diagnostics(response) == ""
    gateway.away = False
    assert gateway.post().status_code == 202


def test_a_body_of_exactly_the_cap_comes_in_and_one_byte_more_does_not(gateway: Gateway) -> None:
    filled = b'{"a":"' + b"x" * (MAX_BYTES - 8) + b'"}'
    assert len(filled) == MAX_BYTES
    assert gateway.post(filled).status_code == 202
    assert gateway.post(filled + b" ").status_code == 413


def test_a_body_that_hides_its_length_is_cut_off_at_the_cap(gateway: Gateway) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65_536
            yield bytes(65_536)

    response = gateway.post(endless())
    assert response.status_code == 413
    assert taken <= MAX_BYTES + 2 * 65_536
    assert diagnostics(response) == f"TOO_LARGE at byte {MAX_BYTES}"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "JSON_SYNTAX at byte 0"),
        (b'{"name":"Mxyzptlk"', "JSON_SYNTAX at byte 18"),
        (b'{"name":"Mxyzptlk\xff"}', "ENCODING at byte 17"),
        (b'["Mxyzptlk"]', "FHIR_TYPE at byte 0"),
    ],
)
def test_a_refusal_names_the_place_and_never_the_value(
    gateway: Gateway, body: bytes, told: str
) -> None:
    response = gateway.post(body)
    assert response.status_code == 400
    assert diagnostics(response) == told
    assert b"Mxyzptlk" not in response.content
    assert gateway.log == []


def test_another_media_type_is_415(gateway: Gateway) -> None:
    response = gateway.post(Content_Type="text/plain")
    assert response.status_code == 415
    assert diagnostics(response) == "HEADER at header Content-Type"


def test_a_source_without_its_token_is_401_before_its_body_is_read() -> None:
    guarded = Gateway([Source(id="west", token_sha256="a" * 64)])

    read: list[bytes] = []

    async def watched() -> AsyncIterator[bytes]:
        read.append(RESOURCE)
        yield RESOURCE

    response = guarded.post(watched())
    assert read == []
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert diagnostics(response) == "header Authorization"


def test_an_unknown_path_is_told_in_the_words_of_its_kind(gateway: Gateway) -> None:
    assert gateway.ask("GET", "/fhir/Patient").status_code == 404
    assert diagnostics(gateway.ask("GET", "/fhir/Patient")) == ""
    elsewhere = gateway.ask("GET", "/elsewhere")
    assert elsewhere.status_code == 404
    assert elsewhere.headers["content-type"] == "application/problem+json"


def test_another_method_is_405_with_the_one_that_is_allowed(gateway: Gateway) -> None:
    response = gateway.ask("PUT", "/fhir")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert diagnostics(response) == ""


def test_a_tick_is_stored_as_a_tick(gateway: Gateway) -> None:
    response = gateway.post(b'{"time":"2026-01-01T09:00:00Z"}', "/ticks", Vigil_Source="west")
    assert response.status_code == 202
    headers = dict(gateway.log[0].headers)
    assert headers["content-type"] == b"application/vnd.vigil.tick+json"
    assert headers["received_at"] == b"1767258000000000"


def test_a_tick_that_is_none_is_a_problem(gateway: Gateway) -> None:
    response = gateway.post(b'{"time":"noon"}', "/ticks")
    assert response.status_code == 400
    assert response.json()["detail"] == "TIME_FORMAT at time"


def test_an_error_of_ours_is_told_without_its_text(gateway: Gateway) -> None:
    async def broken(_: Output) -> None:
        raise ValueError("Mxyzptlk")

    gateway.app = make_app(
        Desk(Sources(None), b"k" * 32, clock=lambda: 1, randomness=bytes),
        Hearing(b"k" * 32, CODEC.encode, {}),
        broken,
        health=Health(BUILD, gateway.metrics, lambda: (True, "")),
        metrics=gateway.metrics,
        lifespan=nothing,
    )
    response = gateway.post()
    assert response.status_code == 500
    assert b"Mxyzptlk" not in response.content


def test_readiness_says_why_not(gateway: Gateway) -> None:
    assert gateway.ask("GET", "/readyz").status_code == 200
    gateway.away = True
    assert gateway.ask("GET", "/readyz").json() == {"ready": False, "why": "away"}
    assert gateway.ask("GET", "/livez").status_code == 200
    assert gateway.ask("GET", "/version").json()["version"] == "1.2.3"


def test_requests_are_counted_by_status_and_hold_nothing_of_a_patient(gateway: Gateway) -> None:
    gateway.post()
    gateway.post(b"{")
    text = gateway.ask("GET", "/metrics").text
    assert 'vigil_requests_total{outcome="202",service="gateway"} 1.0' in text
    assert 'vigil_requests_total{outcome="400",service="gateway"} 1.0' in text
    assert "Mxyzptlk" not in text


def test_the_contract_tells_every_answer_and_both_media_types(gateway: Gateway) -> None:
    paths = gateway.ask("GET", "/openapi.json").json()["paths"]
    fhir = paths["/fhir"]["post"]
    told = {"202", "400", "401", "403", "408", "413", "415", "500", "503"}
    assert set(fhir["responses"]) == told | {"200"}
    assert set(paths["/fhir/{type}/{id}"]["put"]["responses"]) == told | {"412"}
    assert set(fhir["requestBody"]["content"]) == {"application/fhir+json", "application/json"}
    assert fhir["responses"]["503"]["headers"].keys() == {"Retry-After"}
    answers = {"/feedback", "/outcomes"}
    for path in answers:
        assert set(paths[path]["post"]["responses"]) == told
    operators = {"/livez", "/readyz", "/metrics", "/version"}
    below = {"/fhir/{type}", "/fhir/{type}/{id}"}
    assert set(paths) == {"/fhir", "/ticks"} | below | answers | operators


ANSWER = {
    "id": "fb-1",
    "alert_id": "20d3-2-10@1e6ed65d77d6",
    "verdict": "confirmed",
    "answered_at": "2026-01-01T09:00:00Z",
}
TOLD = {"id": "p-1", "complete_through": "2026-01-01T09:00:00Z"}
AT_TEN = {"Vigil-Source": "west", "Vigil-Time": "2026-01-01T10:00:00Z"}


def test_an_answer_is_stored_with_the_time_that_its_source_declares(gateway: Gateway) -> None:
    response = gateway.post(json.dumps(ANSWER), "/feedback", **AT_TEN)
    assert (response.status_code, response.json()) == (202, {"id": "fb-1"})
    (record,) = gateway.log
    told = CODEC.decode(record.value or b"", Feedback)
    assert (told.source, told.received_at, told.accepted_at) == ("west", 1767261600000000, 1)


def test_progress_is_answered_when_every_partition_holds_it(gateway: Gateway) -> None:
    response = gateway.post(json.dumps(TOLD), "/outcomes", **AT_TEN)
    assert (response.status_code, response.json()) == (202, {"id": "p-1"})
    assert sorted(record.partition or 0 for record in gateway.log) == [0, 1, 2, 3]


@pytest.mark.parametrize(("path", "body"), [("/feedback", ANSWER), ("/outcomes", TOLD)])
def test_no_answer_is_taken_that_is_not_stored(
    gateway: Gateway, path: str, body: dict[str, str]
) -> None:
    gateway.away = True
    assert gateway.post(json.dumps(body), path, **AT_TEN).status_code == 503
    gateway.away = False
    gateway.partitions.clear()
    response = gateway.post(json.dumps(body), path, **AT_TEN)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert gateway.log == []


@pytest.mark.parametrize("path", ["/feedback", "/outcomes"])
def test_a_refusal_beside_fhir_is_a_problem_that_a_program_can_read(
    gateway: Gateway, path: str
) -> None:
    response = gateway.post(b'{"Mxyzptlk":1}', path)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["place"]) == (400, "body")
    assert problem["reason"] in {"FIELD_UNKNOWN", "FIELD_MISSING"}
    assert problem["detail"] == f"{problem['reason']} at body"
    assert b"Mxyzptlk" not in response.content


@pytest.mark.parametrize("path", ["/feedback", "/outcomes"])
def test_who_answers_is_identified_as_who_sends(path: str) -> None:
    guarded = Gateway([Source(id="west", token_sha256="a" * 64)])
    assert guarded.post(json.dumps(ANSWER), path).status_code == 401


def test_a_source_that_only_answers_is_not_ticked_for() -> None:
    door = Desk(Sources(None), b"k" * 32, clock=lambda: 1, randomness=bytes)
    headers = {"content-type": "application/json", "vigil-source": "west"}
    assert door.arrival(door.identify(headers), headers) == ("west", 1, 1)
    assert door.due_ticks() == []


class Slow:
    """A publisher that delivers when it is told to."""

    def __init__(self) -> None:
        self.broken = False
        self.sent: list[Delivered] = []
        self.outcome: bool | None = None

    def send(self, output: Output, delivered: Delivered) -> None:
        assert output.topic
        self.sent.append(delivered)

    def poll(self, timeout_s: float) -> int:
        assert timeout_s == 0
        if self.outcome is None:
            return 0
        reports, self.sent = self.sent, []
        for delivered in reports:
            delivered(self.outcome)
        return len(reports)

    def flush(self, timeout_s: float) -> int:
        return self.poll(0) if timeout_s else 0

    def reach(self, topic: str, timeout_s: float) -> None:
        assert topic
        assert timeout_s > 0
        if self.outcome is not True:
            raise Retry("Kafka: no answer")


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def publisher() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    assert slow.sent == []


RECORD = Output("fhir.raw.v1", b"key", b"{}")


async def turned_away(outbox: Outbox) -> bool:
    try:
        await outbox.deliver(RECORD)
    except Retry:
        return True
    return False


def test_a_record_is_done_when_the_broker_says_so_and_not_before(publisher: Slow) -> None:
    async def scene() -> None:
        outbox = Outbox(publisher, "fhir.raw.v1", Time())
        task = asyncio.create_task(outbox.deliver(RECORD))
        for _ in range(10):
            await asyncio.sleep(0.002)
        assert not task.done()
        assert outbox.waiting == 1
        publisher.outcome = True
        await asyncio.wait_for(task, 120)
        assert outbox.waiting == 0

    asyncio.run(scene())


def test_a_record_that_was_not_delivered_is_not_done(publisher: Slow) -> None:
    async def scene() -> None:
        publisher.outcome = False
        outbox = Outbox(publisher, "fhir.raw.v1", Time())
        assert await turned_away(outbox)
        assert outbox.ready() == (False, "a record could not be delivered to Kafka")
        publisher.outcome = True
        await outbox.deliver(RECORD)
        assert outbox.ready() == (True, "")

    asyncio.run(scene())


def test_the_door_shuts_while_a_record_is_stuck_and_opens_again(publisher: Slow) -> None:
    async def scene() -> None:
        clock = Time()
        outbox = Outbox(publisher, "fhir.raw.v1", clock)
        task = asyncio.create_task(outbox.deliver(RECORD))
        await asyncio.sleep(0)
        clock.now += STUCK_S + 0.1
        assert await turned_away(outbox)
        assert outbox.ready() == (False, "records wait to be delivered to Kafka")
        publisher.outcome = True
        await asyncio.wait_for(task, 120)
        await asyncio.wait_for(outbox.deliver(RECORD), 120)

    asyncio.run(scene())


def test_a_sender_that_hangs_up_disturbs_nobody(publisher: Slow) -> None:
    async def scene() -> None:
        outbox = Outbox(publisher, "fhir.raw.v1", Time())
        gone = asyncio.create_task(outbox.deliver(RECORD))
        other = asyncio.create_task(outbox.deliver(RECORD))
        await asyncio.sleep(0)
        gone.cancel()
        publisher.outcome = True
        await asyncio.wait_for(other, 120)

    asyncio.run(scene())


def test_an_outbox_is_ready_when_kafka_has_answered(publisher: Slow) -> None:
    async def scene() -> None:
        outbox = Outbox(publisher, "fhir.raw.v1", Time())
        assert outbox.ready()[0] is False
        publisher.outcome = True
        probe = asyncio.create_task(outbox.probe())
        async with asyncio.timeout(120):
            while not outbox.ready()[0]:  # noqa: ASYNC110 - another thread tells
                await asyncio.sleep(0.005)
        probe.cancel()

    asyncio.run(scene())


def test_a_broken_client_ends_the_probe(publisher: Slow) -> None:
    async def scene() -> None:
        publisher.broken = True
        with pytest.raises(Retry, match="broken for good"):
            await Outbox(publisher, "fhir.raw.v1", Time()).probe()

    asyncio.run(scene())


@pytest.mark.parametrize("path", ["/fhir/?name=Zebediah", "/Zebediah/", "/ticks/?Zebediah"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_no_refusal_repeats_the_address(gateway: Gateway, method: str, path: str) -> None:
    told = gateway.ask(method, path, content=RESOURCE)
    assert told.is_client_error
    assert "Zebediah" not in f"{told.headers}{told.text}"
