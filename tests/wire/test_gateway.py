"""The gateway as its own process, in front of the real broker."""

import asyncio
import contextlib
import hashlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from uuid import uuid4

import httpx
import msgspec
import numpy as np
import pytest
from gateways import AT_TEN, DEADLINE_S, TOPIC, Gateway, get, log_of, post, prepare, through
from lives import until

from services.core.errors import ExitCode
from services.core.events import Alert, Authority, Feedback, Outcome, Step
from services.core.pseudonyms import encounter_pseudonym, statement_name
from services.local.home import REPO
from services.local.kafka import Broker
from services.runtime.codec import Codec
from services.runtime.kafka.publisher import Publisher
from services.runtime.ports import Output, Record
from services.simulator.answering import Answering, Stack
from services.simulator.clinicians import Clinicians
from services.simulator.delivery import Pace
from services.simulator.feeder import feed
from services.simulator.messages import START
from services.simulator.outcomes import with_outcomes
from services.simulator.registry import Registry
from services.simulator.truth import Truth
from services.simulator.ward import Course, Ward

pytestmark = pytest.mark.wire
HEARD = ("alerts.v1", "feedback.v1", "outcomes.v1")
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEY = bytes.fromhex("5a" * 32)
CODEC = Codec(REPO / "schemas")
SECRET = "Mxyzptlk"  # noqa: S105 - a name that must never be repeated


class Senders:
    """Threads that post one Observation after another and remember every answer."""

    def __init__(self, url: str, threads: int) -> None:
        self.accepted: list[str] = []
        self.refused: Counter[int] = Counter()
        self.retry_after: set[str | None] = set()
        self._url, self._stopping = url, threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def _send(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=DEADLINE_S) as client:
            while not self._stopping.is_set():
                try:
                    self._note(client.post("/fhir", json=observation(f"{SECRET}-{number}")))
                except httpx.TransportError:  # the gateway may have ended
                    self._stopping.wait(0.05)

    def _note(self, answer: httpx.Response) -> None:
        if answer.status_code == 202:
            self.accepted.append(answer.json()["ingest_id"])
        else:
            self.refused[answer.status_code] += 1
            self.retry_after.add(answer.headers.get("retry-after"))


def observation(subject: str) -> dict[str, object]:
    return {"resourceType": "Observation", "subject": {"reference": f"Patient/{subject}"}}


def times_in(records: list[Record], ids: list[str]) -> Counter[int]:
    held = Counter((dict(record.headers)["ingest_id"] or b"").decode() for record in records)
    return Counter(held[name] for name in ids)


@pytest.fixture(scope="module")
def gateway(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    prepare(kafka, [TOPIC, *HEARD])
    with Gateway(kafka, tmp_path_factory.mktemp("gateway")) as running:
        running.await_ready()
        until(running.hears, "the gateway did not learn of the topics of answers")
        yield running


@pytest.mark.slow
def test_an_outage_of_kafka_is_503_and_ends_unaided_and_every_202_is_stored_once(
    broker: Callable[[], Broker], tmp_path: Path
) -> None:
    node = broker()
    prepare(node.bootstrap)
    with Gateway(node.bootstrap, tmp_path) as gateway:
        gateway.await_ready()
        with Senders(gateway.url, threads=8) as senders:
            until(lambda: len(senders.accepted) > 100, "nothing was accepted at first")
            node.kill()
            until(lambda: senders.refused[503] > 20, "nobody was told of the outage")
            assert not gateway.ready()
            before = len(senders.accepted)
            node.start()
            until(lambda: len(senders.accepted) > before + 100, "it did not come back")
        gateway.await_ready()
        assert not gateway.codes, "it lived through the outage"
        assert gateway.end() == ExitCode.OK
        assert SECRET not in gateway.said.read_text()
    assert set(senders.refused) == {503}
    assert senders.retry_after == {"1"}
    assert times_in(log_of(node.bootstrap), senders.accepted) == {1: len(senders.accepted)}


@pytest.mark.slow
def test_what_is_accepted_while_kafka_is_away_is_there_once_whatever_is_killed(
    broker: Callable[[], Broker], tmp_path: Path
) -> None:
    node = broker()
    prepare(node.bootstrap)
    (key := tmp_path / "payload.key").write_text("7c" * 32)
    key.chmod(0o600)
    kept_in = {"VIGIL_OUTBOX_FOLDER": str(tmp_path / "outbox"), "VIGIL_PAYLOAD_KEY_FILE": str(key)}
    with Gateway(node.bootstrap, tmp_path, **kept_in) as gateway:
        gateway.await_ready()
        until(lambda: gateway.kept() == 0, "it did not tell what it keeps")
        with Senders(gateway.url, threads=2) as senders:
            until(lambda: len(senders.accepted) > 50, "nothing was accepted at first")
            node.kill()
            until(lambda: (gateway.kept() or 0) > 50, "nothing was kept in the outage")
            gateway.kill()
            before = len(senders.accepted)
            gateway.start()
            until(lambda: len(senders.accepted) > before + 50, "the next life keeps nothing")
            assert gateway.ready()
            node.start()
            gateway.kill()
            gateway.start()
            before = len(senders.accepted)
            until(lambda: len(senders.accepted) > before + 50, "it did not come back")
            until(lambda: gateway.kept() == 0, "it was not written when Kafka came back")
        assert SECRET not in gateway.said.read_text()
        on_disk = [path.read_bytes() for path in (tmp_path / "outbox").iterdir()]
        assert not any(SECRET.encode() in data for data in on_disk)
    # Only what was on its way when Kafka went is in doubt, and its senders are told so.
    assert set(senders.refused) <= {503}
    assert senders.refused.total() <= 2 * 2
    assert times_in(log_of(node.bootstrap), senders.accepted) == {1: len(senders.accepted)}


def test_a_gateway_that_is_told_to_end_loses_nothing_it_accepted(
    kafka: str, tmp_path: Path
) -> None:
    prepare(kafka)
    with Gateway(kafka, tmp_path) as gateway:
        gateway.await_ready()
        with Senders(gateway.url, threads=8) as senders:
            until(lambda: len(senders.accepted) > 200, "nothing was accepted")
            assert gateway.end() == ExitCode.OK
    assert not senders.refused
    assert times_in(log_of(kafka), senders.accepted) == {1: len(senders.accepted)}
    assert SECRET not in gateway.said.read_text()


def test_a_body_reaches_the_log_byte_for_byte(kafka: str, gateway: Gateway) -> None:
    body = b' {"b": 1.10,\n "a":"\\u00e9\xc3\xa9"}\t'
    headers = {
        "Content-Type": "application/fhir+json; charset=utf-8",
        "Vigil-Source": "west",
        "Vigil-Time": "2026-01-01T09:00:00Z",
    }
    answer = post(f"{gateway.url}/fhir", content=body, headers=headers)
    name = answer.json()["ingest_id"].encode()
    (record,) = [r for r in log_of(kafka) if dict(r.headers)["ingest_id"] == name]
    assert (record.value, record.key) == (body, name)
    kept = dict(record.headers)
    assert kept["source"] == b"west"
    assert kept["received_at"] == b"1767258000000000"
    assert abs(int(kept["accepted_at"] or b"") - time.time() * 1e6) < DEADLINE_S * 1e6


def test_one_patients_messages_share_a_partition(kafka: str, gateway: Gateway) -> None:
    names = set()
    for _ in range(5):
        answer = post(f"{gateway.url}/fhir", json=observation("made-up-1"))
        names.add(answer.json()["ingest_id"].encode())
    found = [r for r in log_of(kafka) if dict(r.headers)["ingest_id"] in names]
    assert len(found) == 5
    assert len({record.partition for record in found}) == 1


def test_a_chunked_body_over_the_cap_is_413(gateway: Gateway) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"a":"'
        for _ in range(20):
            yield b"x" * 65_536

    headers = {"Content-Type": "application/fhir+json"}
    with httpx.Client(timeout=DEADLINE_S) as client:
        assert raw_status(gateway.url, chunks()) == 413
        answer = client.post(f"{gateway.url}/fhir", content=b'{"a":1}', headers=headers)
    assert answer.status_code == 202


def raw_status(url: str, chunks: Iterator[bytes]) -> int:
    """Send chunks without a length and read the status, though the door may close meanwhile."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 0), DEADLINE_S) as wire:
        wire.sendall(
            b"POST /fhir HTTP/1.1\r\nHost: vigil\r\nContent-Type: application/fhir+json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                wire.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            wire.sendall(b"0\r\n\r\n")
        return int(wire.recv(1024).split(b" ")[1])


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        pytest.param({"VIGIL_GATEWAY_HOST": "0.0.0.0"}, "beyond this machine", id="open door"),  # noqa: S104 - refused
        pytest.param({"VIGIL_PSEUDONYM_KEY_FILE": "nowhere"}, "pseudonym key", id="no key"),
        pytest.param({"VIGIL_SOURCES_FILE": "nowhere"}, "VIGIL_SOURCES_FILE", id="no sources"),
        pytest.param({"VIGIL_GATEWAY_PORT": "many"}, "VIGIL_GATEWAY_PORT", id="no port"),
    ],
)
def test_a_gateway_that_is_told_nonsense_ends_with_a_sentence(
    tmp_path: Path, environment: dict[str, str], told: str
) -> None:
    with Gateway("127.0.0.1:9", tmp_path, **environment) as gateway:
        assert gateway.ends() == ExitCode.CONFIGURATION
    assert told in gateway.said.read_text()


def test_a_taken_port_is_told_and_tried_again_by_the_supervisor(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Gateway("127.0.0.1:9", tmp_path, VIGIL_GATEWAY_PORT=str(port)) as gateway:
            assert gateway.ends() == ExitCode.UNREACHABLE
    assert f"port {port} cannot be opened" in gateway.said.read_text()


def test_a_gateway_without_kafka_lives_and_is_not_ready(tmp_path: Path) -> None:
    with Gateway("127.0.0.1:9", tmp_path) as gateway:
        until(lambda: alive(gateway.url), "it does not live")
        answer = get(f"{gateway.url}/readyz")
        assert answer.status_code == 503
        assert "Kafka" in answer.json()["why"]
        posted = post(f"{gateway.url}/fhir", json=observation("made-up-1"))
        assert (posted.status_code, posted.headers["retry-after"]) == (503, "1")
        posted = post(f"{gateway.url}/outcomes", json=through("a"), headers=AT_TEN)
        assert (posted.status_code, posted.headers["retry-after"]) == (503, "1")


def alive(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return get(f"{url}/livez").status_code == 200
    return False


def test_tokens_tell_sources_apart(kafka: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    sources = tmp_path / "sources.toml"
    sources.write_text(f'[[source]]\nid = "west"\ntoken_sha256 = "{digest}"\n')
    prepare(kafka)
    with Gateway(kafka, tmp_path, VIGIL_SOURCES_FILE=str(sources)) as gateway:
        gateway.await_ready()
        url = f"{gateway.url}/fhir"
        assert post(url, json=observation("made-up-1")).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        answer = post(url, json=observation("made-up-1"), headers=headers)
        assert answer.status_code == 202
        name = answer.json()["ingest_id"].encode()
    (record,) = [r for r in log_of(kafka) if dict(r.headers)["ingest_id"] == name]
    assert dict(record.headers)["source"] == b"west"


def test_an_answer_reaches_the_partition_of_its_alert_each_time_it_is_sent(
    kafka: str, gateway: Gateway
) -> None:
    name = uuid4().hex
    answer = {
        "id": name,
        "alert_id": "20d3-3-10@1e6ed65d77d6",
        "verdict": "dismissed",
        "reason": "not-septic",
        "answered_at": "2026-01-01T09:59:00Z",
    }
    for _ in range(2):
        told = post(f"{gateway.url}/feedback", json=answer, headers=AT_TEN)
        assert (told.status_code, told.json()) == (202, {"id": name})
    kept = statement_name(KEY, "west", name)
    held = [(r, CODEC.decode(r.value or b"", Feedback)) for r in log_of(kafka, "feedback.v1")]
    first, again = [(r, said) for r, said in held if said.feedback_id == kept]
    assert (first[0].partition, first[0].key) == (3, b"20d3-3-10@1e6ed65d77d6")
    assert msgspec.structs.replace(again[1], accepted_at=first[1].accepted_at) == first[1]


def test_progress_reaches_every_partition(kafka: str, gateway: Gateway) -> None:
    name = uuid4().hex
    told = post(f"{gateway.url}/outcomes", json=through(name), headers=AT_TEN)
    assert told.status_code == 202
    kept = statement_name(KEY, "west", name)
    held = [(r, CODEC.decode(r.value or b"", Outcome)) for r in log_of(kafka, "outcomes.v1")]
    assert sorted(r.partition for r, said in held if said.outcome_id == kept) == [0, 1, 2, 3]


def test_the_gateway_takes_a_ward_with_its_registry(kafka: str, gateway: Gateway) -> None:
    source = f"ward-{uuid4().hex[:8]}"
    ward = Ward(np.random.default_rng(3), START, beds=4, source=source)
    registry = Registry(3, source=source, scale=1 / 6)
    merged = list(with_outcomes(ward, ward.messages(30), registry, until=START + 20 * DAY))
    sent = asyncio.run(feed(merged, gateway.url, pace=Pace(tick_every=DAY)))
    assert (sent.accepted, sent.refused) == (len(merged), {})
    outcomes = [CODEC.decode(r.value or b"", Outcome) for r in log_of(kafka, "outcomes.v1")]
    told = {
        (said.encounter, said.onset_at is not None)
        for said in outcomes
        if said.source == source and said.authority is Authority.FINAL and said.encounter
    }
    assert {(encounter_pseudonym(KEY, source, c.encounter), bool(c.onset_at))
            for c in ward.courses} <= told  # fmt: skip  # one thought


def test_invented_clinicians_answer_the_alerts_of_a_real_topic(
    kafka: str, gateway: Gateway
) -> None:
    ward = Ward(np.random.default_rng(1), START, beds=6)
    for _ in ward.messages(200):
        pass
    alerts = [raised(course) for course in ward.courses]
    publish(kafka, alerts)
    stack = Stack({"bootstrap.servers": kafka}, REPO / "schemas", gateway.url)
    truth = Truth(ward.courses, KEY)
    with Answering(stack, Clinicians(7), truth) as answering:
        until(
            lambda: answering.raised - answering.unknown == len(alerts) and not answering.waiting,
            "not every alert was considered",
        )
    expected = {
        alert.alert_id: answer
        for alert, course in zip(alerts, ward.courses, strict=True)
        if (answer := Clinicians(7).answer(alert, course))
    }
    heard = [CODEC.decode(r.value or b"", Feedback) for r in log_of(kafka, "feedback.v1")]
    found = {said.alert_id: said for said in heard if said.alert_id in expected}
    assert found.keys() == expected.keys()
    assert len(found) > 5
    for name, answer in expected.items():
        said = found[name]
        assert (said.source, said.verdict, said.role) == (
            "clinicians",
            answer.verdict,
            answer.role,
        )
        assert said.received_at == (answer.told_at - EPOCH) // timedelta(microseconds=1)
    assert not answering.refused
    assert answering.answered.total() + answering.silent == answering.raised


def test_answers_wait_until_event_time_has_come(kafka: str, gateway: Gateway) -> None:
    ward = Ward(np.random.default_rng(2), START, beds=6)
    for _ in ward.messages(2):
        pass
    publish(kafka, [raised(course) for course in ward.courses])
    stack = Stack({"bootstrap.servers": kafka}, REPO / "schemas", gateway.url)
    now = [START]
    truth, clinicians = Truth(ward.courses, KEY), Clinicians(7)
    with Answering(stack, clinicians, truth, clock=lambda: now[0]) as answering:
        until(
            lambda: answering.raised - answering.unknown == len(ward.courses),
            "not every alert was considered",
        )
        assert not answering.answered
        waiting = answering.waiting
        assert waiting
        now[0] = START + timedelta(days=400)
        until(lambda: not answering.waiting, "what is due was not told")
    assert answering.answered.total() == waiting


def raised(course: Course) -> Alert:
    at = (course.admitted_at - EPOCH) // timedelta(microseconds=1) + 20 * 3_600_000_000
    name = f"20d3-2-{uuid4().int % 10**15}@1e6ed65d77d6"
    return Alert(
        alert_id=name,
        step=Step.RAISED,
        prediction_id=name,
        pseudonym=b"p" * 16,
        encounter=encounter_pseudonym(KEY, "ward", course.encounter),
        unit=course.unit,
        measured_at=at,
        received_at=at,
        accepted_at=1,
        valid_until=at + 1,
        score=0.7,
        threshold=0.5,
        cause="threshold",
        policy_version="1",
        model_digest="1e6ed65d77d6",
    )


def publish(bootstrap: str, alerts: list[Alert]) -> None:
    publisher = Publisher({"bootstrap.servers": bootstrap})
    for alert in alerts:
        output = Output("alerts.v1", alert.pseudonym, CODEC.encode(alert))
        publisher.send(output, lambda held: None)  # noqa: ARG005 - the reader tells
    assert publisher.flush(30) == 0
