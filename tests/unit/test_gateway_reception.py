import hashlib
import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import Reason
from services.gateway.reception.answers import MEANINGS, Rejected, operation_outcome, problem
from services.gateway.reception.body import check_object, media_type
from services.gateway.reception.credentials import Source
from services.gateway.reception.desk import MOST_SOURCES, Desk
from services.gateway.reception.records import affinity, ingest_id
from services.gateway.reception.sources import Sources, read_sources
from services.gateway.reception.times import declared_at
from services.runtime.ports import Output

KEY = b"k" * 32
NOW = 1_800_000_000_123_456
FHIR = {"content-type": "application/fhir+json"}
BODY = b'{"resourceType":"Observation","subject":{"reference":"Patient/made-up-1"}}'
NINE = 1767258000000000
TOKEN = "wonderful"  # noqa: S105 - of a test
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()


def counted() -> Callable[[int], bytes]:
    numbers = itertools.count()
    return lambda size: next(numbers).to_bytes(size, "big")


def desk(known: list[Source] | None = None) -> Desk:
    return Desk(Sources(known), KEY, clock=lambda: NOW, randomness=counted())


def received(record: Output) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers}


def refused(body: bytes) -> tuple[str, str]:
    with pytest.raises(Rejected) as found:
        check_object(body)
    assert found.value.status == 400
    return found.value.reason, found.value.place


@pytest.mark.parametrize(
    ("body", "reason", "place"),
    [
        (b"", Reason.JSON_SYNTAX, "byte 0"),
        (b" \n", Reason.JSON_SYNTAX, "byte 2"),
        (b'{"a":', Reason.JSON_SYNTAX, "byte 5"),
        (b'{"a":1,}', Reason.JSON_SYNTAX, "byte 7"),
        (b"{'a':1}", Reason.JSON_SYNTAX, "byte 1"),
        (b'{"a":NaN}', Reason.JSON_SYNTAX, "byte 5"),
        (b'{"a":1} {', Reason.JSON_SYNTAX, "byte 9"),  # after the first surplus byte
        (b" [1]", Reason.FHIR_TYPE, "byte 1"),
        (b'"text"', Reason.FHIR_TYPE, "byte 0"),
        (b"null", Reason.FHIR_TYPE, "byte 0"),
        (b'{"a":"\xff"}', Reason.ENCODING, "byte 6"),
        (b'{"a":"\xc0\xaf"}', Reason.ENCODING, "byte 6"),
        (b'{"a":"\xed\xa0\x80\xed\xb0\x80"}', Reason.ENCODING, "byte 6"),
        ('{"a":"é"}'.encode("latin-1"), Reason.ENCODING, "byte 6"),
        ('{"a":1}'.encode("utf-16"), Reason.ENCODING, "byte 0"),
        (b"\xef\xbb\xbf{}", Reason.JSON_SYNTAX, "byte 0"),
        (b"[" * 100_000, Reason.JSON_DEPTH, "body"),
        (b'{"":[' * 50_000, Reason.JSON_DEPTH, "body"),
    ],
)
def test_a_body_that_is_no_object_is_refused_where_it_fails(
    body: bytes, reason: Reason, place: str
) -> None:
    assert refused(body) == (reason, place)


@given(st.binary(max_size=60) | st.text('{}[]":,a1.e- \\u0d8', max_size=12).map(str.encode))
def test_a_body_is_an_object_or_it_is_refused(body: bytes) -> None:
    assert is_object(body) <= readable(body)


def is_object(body: bytes) -> bool:
    try:
        check_object(body)
    except Rejected:
        return False
    return True


def readable(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


@given(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False)))
def test_every_object_may_come_in(value: dict[str, object]) -> None:
    check_object(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


@pytest.mark.parametrize(
    "stated",
    [
        "application/fhir+json",
        "application/json",
        "Application/FHIR+JSON; charset=UTF-8",
        'application/json;charset="utf-8"; fhirVersion=4.0',
    ],
)
def test_fhir_json_in_utf_8_is_taken(stated: str) -> None:
    assert media_type({"content-type": stated}) == stated.partition(";")[0].lower()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/fhir+xml"},
        {"content-type": "application/json; charset=latin-1"},
        {**FHIR, "content-encoding": "gzip"},
    ],
)
def test_anything_else_is_an_unsupported_media_type(headers: dict[str, str]) -> None:
    with pytest.raises(Rejected) as found:
        media_type(headers)
    assert found.value.status == 415


def test_a_record_holds_the_body_untouched_and_what_is_known_in_headers() -> None:
    strange = b' {"b": 1.10,\n "a":"\\u00e9"}\t'
    name, record = desk().fhir(Source(id="west", clock="declared"), FHIR, strange)
    assert record.value == strange
    assert received(record) == {
        "content-type": "application/fhir+json",
        "source": "west",
        "received_at": str(NOW),
        "accepted_at": str(NOW),
        "ingest_id": name,
    }
    assert (record.topic, record.key) == ("fhir.raw.v1", name.encode())


def test_ingest_ids_begin_with_their_time_and_differ() -> None:
    chance = counted()
    names = [ingest_id(NOW, chance) for _ in range(100)]
    assert len(set(names)) == 100
    assert {len(name) for name in names} == {32}
    assert {int(name[:12], 16) for name in names} == {NOW // 1000}


def subjects(*references: str) -> bytes:
    entries = [{"resource": {"subject": {"type": "Patient", "reference": r}}} for r in references]
    return json.dumps({"resourceType": "Bundle", "entry": entries}).encode()


def test_messages_of_one_patient_of_one_source_share_a_key() -> None:
    one = affinity(subjects("Patient/1"), KEY, source="west")
    assert one is not None
    assert len(one) == 16
    assert affinity(subjects("Patient/1", "Patient/1"), KEY, source="west") == one
    assert affinity(subjects("Patient/2"), KEY, source="west") != one
    assert affinity(subjects("Patient/1"), KEY, source="east") != one
    assert affinity(subjects("Patient/1"), b"other", source="west") != one


@pytest.mark.parametrize("body", [subjects(), subjects("Patient/1", "Patient/2"), b"{}"])
def test_several_patients_or_none_have_the_ingest_id_for_a_key(body: bytes) -> None:
    assert affinity(body, KEY, source="west") is None


def test_a_key_tells_nobody_who_the_subject_is() -> None:
    _, record = desk().fhir(Source(id="west"), FHIR, BODY)
    everything = b"".join([record.key or b"", *(value or b"" for _, value in record.headers)])
    assert b"made-up" not in everything


def test_the_clock_of_a_source_decides_when_a_message_was_received() -> None:
    headers = {**FHIR, "vigil-time": "2026-01-01T10:00:00+01:00"}
    declared = desk().fhir(Source(id="west", clock="declared"), headers, BODY)[1]
    trusted = desk().fhir(Source(id="west", clock="gateway"), headers, BODY)[1]
    assert received(declared)["received_at"] == str(NINE)
    assert received(declared)["accepted_at"] == str(NOW)
    assert received(trusted)["received_at"] == str(NOW)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_declared_time_is_read_to_the_microsecond(time: datetime) -> None:
    seconds = declared_at(time.isoformat()) / 1_000_000
    assert seconds == pytest.approx(time.timestamp())


@pytest.mark.parametrize(
    "text", ["", "now", "2026-01-01", "2026-01-01T09:00:00", "2026-02-30T09:00:00Z", "1767258000"]
)
def test_a_declared_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as found:
        declared_at(text)
    assert (found.value.status, found.value.reason) == (400, Reason.TIME_FORMAT)


def test_a_tick_is_a_record_of_its_source_at_its_time() -> None:
    name, record = desk().tick(Source(id="west"), b'{"time":"2026-01-01T09:00:00Z"}')
    assert record.value == b'{"time":"2026-01-01T09:00:00Z"}'
    assert record.key == b"west"
    assert received(record) == {
        "content-type": "application/vnd.vigil.tick+json",
        "source": "west",
        "received_at": str(NINE),
        "accepted_at": str(NOW),
        "ingest_id": name,
    }


@pytest.mark.parametrize("body", [b"{}", b'{"time":1}', b'{"time":"noon"}', b'{"time":null}'])
def test_a_tick_without_a_time_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected) as found:
        desk().tick(Source(id="west"), body)
    assert found.value.status == 400


def test_the_gateway_ticks_for_sources_whose_clock_it_is() -> None:
    door = desk()
    assert door.due_ticks() == []
    door.fhir(door.identify({**FHIR, "vigil-source": "west"}), FHIR, BODY)
    (tick,) = door.due_ticks()
    assert received(tick)["source"] == "west"
    assert received(tick)["received_at"] == str(NOW)
    assert json.loads(tick.value or b"") == {"time": "2027-01-15T08:00:00.123456Z"}


def test_the_gateway_never_ticks_for_a_source_that_declared_its_time() -> None:
    door = desk()
    declaring = {**FHIR, "vigil-source": "west", "vigil-time": "2026-01-01T09:00:00Z"}
    silent = {**FHIR, "vigil-source": "west"}
    for headers in (silent, declaring, silent):
        door.fhir(door.identify(headers), headers, BODY)
    assert door.due_ticks() == []


def test_a_source_whose_clock_is_the_gateways_may_not_tick() -> None:
    door = desk([Source(id="west")])
    with pytest.raises(Rejected) as found:
        door.tick(Source(id="west"), b'{"time":"2026-01-01T09:00:00Z"}')
    assert found.value.status == 403


def test_made_up_sources_cannot_fill_the_memory() -> None:
    door = desk()
    for number in range(MOST_SOURCES):
        door.fhir(door.identify({**FHIR, "vigil-source": f"s{number}"}), FHIR, BODY)
    door.identify({**FHIR, "vigil-source": "s0"})
    with pytest.raises(Rejected) as found:
        door.identify({**FHIR, "vigil-source": "one-more"})
    assert found.value.status == 403


@pytest.mark.parametrize("name", ["", "West", "a b", "x" * 33, "a/b", "west\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Rejected) as found:
        Sources(None).of({"vigil-source": name})
    assert found.value.status == 400


def test_the_source_is_that_of_the_token_whatever_the_header_says() -> None:
    sources = Sources([Source(id="west", token_sha256=DIGEST)])
    headers = {"authorization": f"Bearer {TOKEN}", "vigil-source": "east"}
    assert sources.of(headers).id == "west"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"vigil-source": "west"},
        {"authorization": "Bearer other"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {DIGEST}"},
        {"authorization": "Bearer \udcff"},
    ],
)
def test_nobody_comes_in_without_a_token_where_there_are_tokens(headers: dict[str, str]) -> None:
    with pytest.raises(Rejected) as found:
        Sources([Source(id="west", token_sha256=DIGEST)]).of(headers)
    assert found.value.status == 401


def test_an_unlisted_source_is_unknown_where_there_is_a_list() -> None:
    sources = Sources([Source(id="west")])
    assert sources.of({"vigil-source": "west"}).id == "west"
    with pytest.raises(Rejected) as found:
        sources.of({"vigil-source": "east"})
    assert found.value.status == 401


def test_sources_are_read_from_toml_and_from_json() -> None:
    toml = b'[[source]]\nid = "west"\nclock = "declared"\n'
    text = b'{"source": [{"id": "west", "clock": "declared"}]}'
    assert read_sources(toml, is_json=False) == read_sources(text, is_json=True)


@pytest.mark.parametrize(
    "known",
    [
        [Source(id="West")],
        [Source(id="west", token_sha256="short")],  # noqa: S106 - of a test
        [Source(id="west"), Source(id="west")],
        [Source(id="west", token_sha256=DIGEST), Source(id="east", token_sha256=DIGEST)],
        [Source(id="west", token_sha256=DIGEST), Source(id="east")],
    ],
)
def test_a_list_that_could_mistake_one_source_for_another_is_refused(known: list[Source]) -> None:
    with pytest.raises(ValueError, match=r"source|token|twice"):
        Sources(known)


@pytest.mark.parametrize("status", MEANINGS)
def test_every_refusal_has_words_for_both_kinds_of_routes(status: int) -> None:
    outcome = json.loads(operation_outcome(Rejected(status, "byte 7", "ENCODING")))
    assert outcome["issue"][0]["diagnostics"] == "ENCODING at byte 7"
    assert json.loads(problem(Rejected(status)))["status"] == status
