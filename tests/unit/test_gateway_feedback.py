"""Answers and outcomes at the gateway's door: what becomes of them, and what never does."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core import feedback as words
from services.core.errors import Reason, Retry
from services.core.events import Authority, Feedback, Outcome, Verdict, partition_of, prediction_id
from services.core.pseudonyms import encounter_pseudonym, patient_pseudonym
from services.gateway.reception import forms
from services.gateway.reception.answers import Rejected
from services.gateway.reception.contract import FEEDBACK_ROUTE, OUTCOME_ROUTE
from services.gateway.reception.forms import Answer, Fault, Progress, Told
from services.gateway.reception.hearing import (
    ANSWERED_WITHIN_US,
    SKEW_US,
    TOLD_WITHIN_US,
    Arrival,
    Heard,
    Hearing,
)
from services.local.home import REPO
from services.runtime.codec import Codec

KEY = b"k" * 32
CODEC = Codec(REPO / "schemas")
PARTITIONS = {"feedback.v1": 4, "outcomes.v1": 4}
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
NOW_US = 1_767_614_400_000_000
ARRIVAL = Arrival("west", NOW_US, NOW_US + 7)
SECRET = "Mxyzptlk"  # noqa: S105 - a name that must never be repeated

ANSWER: dict[str, Any] = {
    "id": "fb-1",
    "alert_id": "20d3-2-10@1e6ed65d77d6",
    "verdict": "dismissed",
    "reason": "clinical-judgment",
    "role": "nurse",
    "shown_at": "2026-01-05T11:50:00Z",
    "answered_at": "2026-01-05T12:55:00.25+01:00",
    "actions": [{"kind": "lactate", "at": "2026-01-05T11:58:00Z"}],
}
TOLD: dict[str, Any] = {
    "id": "out-1",
    "patient": "made-up-1",
    "encounter": "stay.1",
    "authority": "final",
    "revision": 2,
    "onset_at": "2026-01-04T08:00:00Z",
    "recognized_at": "2026-01-04T10:00:00Z",
    "treated_at": None,
    "definition": "physionet-2019",
    "definition_version": "1",
}
PROGRESS: dict[str, Any] = {"id": "p-1", "complete_through": "2026-01-05T06:00:00Z"}


def hearing(partitions: dict[str, int] | None = None) -> Hearing:
    return Hearing(KEY, CODEC.encode, PARTITIONS if partitions is None else partitions)


def hear(body: Any, *, arrival: Arrival = ARRIVAL) -> Heard:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answers = not isinstance(body, dict) or "alert_id" in body or "verdict" in body
    return hearing().feedback(arrival, raw) if answers else hearing().outcome(arrival, raw)


def refused(body: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as found:
        hear(body)
    assert found.value.status == 400
    return found.value.reason, found.value.place


def instant(at_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).isoformat()


def test_an_answer_becomes_one_record_in_the_partition_of_its_alert() -> None:
    name, (record,) = hear(ANSWER)
    assert name == "fb-1"
    assert (record.topic, record.partition) == ("feedback.v1", 2)
    assert record.key == b"20d3-2-10@1e6ed65d77d6"
    told = CODEC.decode(record.value or b"", Feedback)
    assert told.answered_at == NOW_US - 299_750_000
    assert told.shown_at == NOW_US - 600_000_000
    assert [(a.kind, a.at) for a in told.actions] == [("lactate", NOW_US - 120_000_000)]
    assert (told.verdict, told.reason, told.role) == (
        Verdict.DISMISSED,
        "clinical-judgment",
        "nurse",
    )
    assert (told.source, told.received_at, told.accepted_at) == ARRIVAL


def test_the_least_that_an_answer_says_is_enough() -> None:
    least = {name: ANSWER[name] for name in ("id", "alert_id", "verdict", "answered_at")}
    told = CODEC.decode(hear(least).records[0].value or b"", Feedback)
    assert (told.reason, told.role, told.shown_at, told.actions) == ("", "", None, [])


def test_an_outcome_has_the_names_that_ingest_gives() -> None:
    _, (record,) = hear(TOLD)
    told = CODEC.decode(record.value or b"", Outcome)
    assert told.pseudonym == patient_pseudonym(KEY, "west", "made-up-1") == record.key
    assert told.encounter == encounter_pseudonym(KEY, "west", "stay.1")
    assert (record.topic, record.partition) == ("outcomes.v1", partition_of(told.pseudonym, 4))
    assert (told.authority, told.revision, told.treated_at) == (Authority.FINAL, 2, None)
    assert told.onset_at == NOW_US - 28 * 3_600_000_000


def test_an_outcome_without_onset_must_say_so() -> None:
    told = CODEC.decode(hear({**TOLD, "onset_at": None}).records[0].value or b"", Outcome)
    assert told.onset_at is None
    silent = {name: value for name, value in TOLD.items() if name != "onset_at"}
    assert refused(silent) == (Fault.FIELD_MISSING, "onset_at")


def test_progress_stands_in_every_partition() -> None:
    name, records = hear(PROGRESS)
    assert name == "p-1"
    assert [record.partition for record in records] == [0, 1, 2, 3]
    assert {(record.topic, record.key) for record in records} == {("outcomes.v1", b"west")}
    (value,) = {record.value for record in records}
    told = CODEC.decode(value or b"", Outcome)
    assert told.complete_through == NOW_US - 6 * 3_600_000_000
    assert (told.pseudonym, told.encounter, told.onset_at) == (b"", b"", None)


@pytest.mark.parametrize("body", [ANSWER, TOLD, PROGRESS])
def test_the_same_id_again_differs_in_the_real_time_alone(body: dict[str, Any]) -> None:
    later = ARRIVAL._replace(accepted_at=ARRIVAL.accepted_at + 1)
    kind = Feedback if body is ANSWER else Outcome
    first, again = (
        [CODEC.decode(r.value or b"", kind) for r in hear(body, arrival=arrival).records]
        for arrival in (ARRIVAL, later)
    )
    assert first != again
    assert [
        msgspec.structs.replace(each, accepted_at=later.accepted_at) for each in first
    ] == again
    keys = [
        [(r.key, r.partition) for r in hear(body, arrival=a).records] for a in (ARRIVAL, later)
    ]
    assert keys[0] == keys[1]


@given(st.integers(0, 3), st.integers(0, 2**63 - 1), st.binary(min_size=8, max_size=8))
def test_every_alert_id_that_scoring_makes_is_taken(part: int, offset: int, digest: bytes) -> None:
    name = prediction_id("00c7a1f4-0000-4000-8000-000000000000", part, offset, digest=digest.hex())
    assert hear({**ANSWER, "alert_id": name}).records[0].partition == part


@pytest.mark.parametrize(
    "name",
    [
        "",
        "20d3-4-10@1e6ed65d77d6",  # there is no such partition
        "20d3-02-10@1e6ed65d77d6",
        "20d3--1-10@1e6ed65d77d6",
        "20d3-²-10@1e6ed65d77d6",
        "20D3-2-10@1e6ed65d77d6",
        "20d3-2-10@1e6ed65d77d6\n",
        "20d3-2-10@1e6ed65d77d",
        f"20d3-{'9' * 4000}-10@1e6ed65d77d6",
        SECRET,
    ],
)
def test_an_alert_id_that_is_none_is_refused(name: str) -> None:
    assert refused({**ANSWER, "alert_id": name}) == (Fault.ALERT_ID, "alert_id")


@pytest.mark.parametrize(
    ("body", "reason", "place"),
    [
        ({**ANSWER, "note": SECRET}, Fault.FIELD_UNKNOWN, "body"),
        ({**ANSWER, SECRET: 1}, Fault.FIELD_UNKNOWN, "body"),
        ({**ANSWER, f"x` - at `$.{SECRET}": 1}, Fault.FIELD_UNKNOWN, "body"),
        ({**ANSWER, "actions": [{"kind": "", SECRET: 1}]}, Fault.FIELD_UNKNOWN, "actions[0]"),
        ({**ANSWER, "actions": [{"kind": "fluids"}]}, Fault.FIELD_MISSING, "actions[0].at"),
        ({**ANSWER, "actions": [{"kind": SECRET, "at": ANSWER["answered_at"]}]},
         Fault.WORD_UNKNOWN, "actions[0].kind"),
        ({**ANSWER, "verdict": SECRET}, Fault.WORD_UNKNOWN, "verdict"),
        ({**ANSWER, "reason": SECRET}, Fault.WORD_UNKNOWN, "reason"),
        ({**ANSWER, "role": SECRET}, Fault.WORD_UNKNOWN, "role"),
        ({**ANSWER, "id": f"{SECRET} is ill"}, Fault.ID, "id"),
        ({**ANSWER, "id": "fb-1\n"}, Fault.ID, "id"),
        ({**ANSWER, "id": 7}, Reason.VALUE_TYPE, "id"),
        ({**ANSWER, "answered_at": "2026-01-05T12:00:00"}, Reason.TIME_FORMAT, "answered_at"),
        ({**ANSWER, "answered_at": 1767614400}, Reason.TIME_FORMAT, "answered_at"),
        ({**ANSWER, "answered_at": SECRET}, Reason.TIME_FORMAT, "answered_at"),
        ({**ANSWER, "answered_at": None}, Reason.TIME_FORMAT, "answered_at"),
        ({**ANSWER, "shown_at": "2026-01-05T12:05:00Z"}, Fault.TIME_ORDER, "answered_at"),
        ({**ANSWER, "actions": [{}] * 65}, Fault.FIELD_MISSING, "actions[0].kind"),
        ({**ANSWER, "actions": ANSWER["actions"] * 65}, Reason.RANGE, "actions"),
        ({**TOLD, "patient": "."}, Fault.ID, "patient"),
        ({**TOLD, "patient": f"Patient/{SECRET}"}, Fault.ID, "patient"),
        ({**TOLD, "encounter": ""}, Fault.ID, "encounter"),
        ({**TOLD, "authority": "nobody"}, Fault.WORD_UNKNOWN, "authority"),
        ({**TOLD, "definition": "sepsis-1"}, Fault.WORD_UNKNOWN, "definition"),
        ({**TOLD, "revision": -1}, Reason.RANGE, "revision"),
        ({**TOLD, "revision": 10**40}, Reason.RANGE, "revision"),
        ({**TOLD, "revision": True}, Reason.VALUE_TYPE, "revision"),
        ({**TOLD, "complete_through": None}, Fault.FIELD_UNKNOWN, "body"),
        ({**PROGRESS, "complete_through": None}, Reason.TIME_FORMAT, "complete_through"),
    ],
)  # fmt: skip  # one case a line
def test_a_refusal_names_the_code_and_the_field(
    body: dict[str, Any], reason: str, place: str
) -> None:
    assert refused(body) == (reason, place)


@pytest.mark.parametrize(
    ("body", "reason", "place"),
    [
        (b"", Reason.JSON_SYNTAX, "byte 0"),
        (b"[]", Reason.FHIR_TYPE, "byte 0"),
        (b'{"verdict":"\xff"}', Reason.ENCODING, "byte 12"),
        (b'{"id":"\\ud800"}', Reason.JSON_SYNTAX, "byte 15"),
        (b'{"a":' * 100_000, Reason.JSON_DEPTH, "body"),
        (
            json.dumps(ANSWER).encode()[:-1] + b',"verdict":"confirmed"}',
            Reason.JSON_DUP_KEY,
            "body",
        ),
        (
            json.dumps(ANSWER).replace('"kind"', '"kind":"fluids","kind"').encode(),
            Reason.JSON_DUP_KEY,
            "body",
        ),
    ],
)
def test_a_body_that_is_no_object_is_refused_where_it_fails(
    body: bytes, reason: str, place: str
) -> None:
    assert refused(body) == (reason, place)


@pytest.mark.parametrize(
    ("field", "body", "within_us"),
    [
        ("answered_at", {**ANSWER, "shown_at": None}, ANSWERED_WITHIN_US),
        ("onset_at", TOLD, TOLD_WITHIN_US),
        ("recognized_at", TOLD, TOLD_WITHIN_US),
        ("treated_at", TOLD, TOLD_WITHIN_US),
        ("complete_through", PROGRESS, TOLD_WITHIN_US),
    ],
)
def test_a_time_lies_between_its_past_and_the_skew_of_clocks(
    field: str, body: dict[str, Any], within_us: int
) -> None:
    for at_us in (NOW_US + SKEW_US, NOW_US - within_us):
        assert hear({**body, field: instant(at_us)}).records
    assert refused({**body, field: instant(NOW_US + SKEW_US + 1)}) == (Reason.TIME_FUTURE, field)
    assert refused({**body, field: instant(NOW_US - within_us - 1)}) == (Fault.TIME_PAST, field)


def test_an_action_may_come_before_the_answer_and_not_after_the_message() -> None:
    def acted(at_us: int) -> dict[str, Any]:
        return {**ANSWER, "actions": [{"kind": "culture", "at": instant(at_us)}]}

    assert hear(acted(NOW_US - 3_600_000_000)).records
    assert refused(acted(NOW_US + SKEW_US + 1)) == (Reason.TIME_FUTURE, "actions[0].at")
    assert refused(acted(NOW_US - ANSWERED_WITHIN_US - 1)) == (Fault.TIME_PAST, "actions[0].at")


@pytest.mark.parametrize("body", [ANSWER, TOLD, PROGRESS])
def test_before_the_partitions_are_known_the_sender_comes_again(body: dict[str, Any]) -> None:
    ignorant = hearing({})
    hears = ignorant.feedback if body is ANSWER else ignorant.outcome
    with pytest.raises(Retry):
        hears(ARRIVAL, json.dumps(body).encode())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A form in which some fields are anything, and the fields that somebody put in."""
    form = draw(st.sampled_from([ANSWER, TOLD, PROGRESS]))
    names = st.sampled_from(sorted(form)) | st.text(min_size=1) | st.just(SECRET)
    wrong = draw(st.dictionaries(names, ANYTHING, min_size=1, max_size=3))
    return form, wrong


@given(spoiled())
def test_no_body_does_worse_than_a_refusal_which_repeats_nothing(
    case: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    form, wrong = case
    body = json.dumps({**form, **wrong}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    refusal = refusal_of(body, answers=form is ANSWER)
    if refusal is not None:
        assert refusal.status == 400
        assert refusal.reason in {*Reason, *Fault}
        assert SECRET not in str(refusal)
        assert set(re.findall("[A-Za-z_]+", refusal.place)) <= {*forms._FIELDS, "body", "byte"}


def refusal_of(body: bytes, *, answers: bool) -> Rejected | None:
    hears = hearing().feedback if answers else hearing().outcome
    try:
        hears(ARRIVAL, body)
    except Rejected as refusal:
        return refusal
    return None


@given(st.binary(max_size=40) | st.text('{}[]":,a1.e- \\u0d8', max_size=12).map(str.encode))
def test_noise_is_refused(noise: bytes) -> None:
    for hears in (hearing().feedback, hearing().outcome):
        with pytest.raises(Rejected):
            hears(ARRIVAL, noise)


def test_nothing_leaves_that_could_tell_of_a_person() -> None:
    value = hear(TOLD).records[0].value or b""
    assert b"made-up" not in value
    assert b"stay." not in value


def test_the_contract_tells_the_words_and_fields_of_the_forms() -> None:
    said = FEEDBACK_ROUTE["openapi_extra"]["requestBody"]["content"]["application/json"]["schema"]
    told, progress = OUTCOME_ROUTE["openapi_extra"]["requestBody"]["content"]["application/json"][
        "schema"
    ]["oneOf"]
    for schema, form in ((said, Answer), (told, Told), (progress, Progress)):
        fields = msgspec.structs.fields(form)
        assert set(schema["properties"]) == {field.name for field in fields}
        assert set(schema["required"]) == {field.name for field in fields if field.required}
        assert schema["additionalProperties"] is False
    assert said["properties"]["reason"]["enum"] == ["", *words.REASONS]
    assert said["properties"]["verdict"]["enum"] == sorted(Verdict)
    assert set(said["properties"]["actions"]["items"]["properties"]) == {"kind", "at"}
    assert "$ref" not in json.dumps([said, told, progress])


def test_each_reason_has_a_code_of_hl7_to_itself() -> None:
    codes = [reason.hl7 for reason in words.REASONS.values()]
    assert len(set(codes)) == len(codes)
    assert len({reason.words for reason in words.REASONS.values()}) == len(codes)


def test_the_examples_of_the_topic_speak_these_words() -> None:
    for path in (REPO / "schemas/examples/feedback.v1").glob("*.json"):
        value = json.loads(path.read_text())["value"]
        assert value["reason"] in {"", *words.REASONS}
        assert value["role"] in {"", *words.ROLES}
        assert {action["kind"] for action in value["actions"]} <= set(words.ACTIONS)
        assert words.partition_named(value["alert_id"]) >= 0


def documented() -> str:
    return (REPO / "docs" / "feedback.md").read_text()


def test_every_body_of_the_guide_is_taken() -> None:
    bodies = [part.partition("```")[0] for part in documented().split("```json\n")[1:]]
    arrival = Arrival("west", NOW_US, NOW_US)
    names = [hear(json.loads(body), arrival=arrival).name for body in bodies]
    assert names == ["fb-2031", "out-77", "through-2026-01-01"]


def test_the_guide_tells_every_word_field_and_code() -> None:
    text = documented()
    vocabulary = {*words.ROLES, *words.ACTIONS, *words.DEFINITIONS, *Verdict, *Authority}
    for word in vocabulary | set(forms._FIELDS) - {"kind", "at"} | set(Fault):
        assert f"`{word}`" in text or f'"{word}"' in text, word
    for word, reason in words.REASONS.items():
        assert f"| `{word}` | {reason.words} | `{reason.hl7}` |" in text
