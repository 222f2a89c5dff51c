"""What may stand on a topic: the list, the schemas, and texts that try to slip through."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from allowed import (
    EVENTS,
    FIELDS,
    FORMS,
    HOLDS,
    PHI,
    SCHEMAS,
    WORDS,
    differences,
    fields_of,
    schema_of,
    strangers,
)
from builders import codec, ingest, record
from canary.messages import ANSWER, MESSAGE, OUTCOME, PLACES, Place, poisoned
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core import events as messages
from services.gateway.reception.answers import Rejected, operation_outcome, problem
from services.gateway.reception.hearing import FEEDBACK, OUTCOMES, Arrival, Hearing

CANARIES = (
    "Zebediah Quux",
    "zebediah",
    "ZQX-448812",
    "99448812",
    "1931-04-05",
    "a@b.example",
    "Ω",
)
OURS = {"operator", "model"}
"""Forms of what people of the site write; the documents say that it names no patient."""
NOW = 1_767_254_405_000_000


@pytest.mark.parametrize("topic", EVENTS)
def test_a_topic_holds_what_the_list_says_and_nothing_else(topic: str) -> None:
    assert differences(topic, schema_of(topic)) == []


def test_the_list_names_no_topic_that_is_none() -> None:
    assert {topic for topic, _ in FIELDS} == EVENTS.keys()


@pytest.mark.parametrize("topic", EVENTS)
def test_a_field_added_to_a_schema_alone_is_told_however_deep(topic: str) -> None:
    for path, holder in records_of(schema := schema_of(topic)):
        holder["fields"].append({"name": "comment", "type": "string", "doc": "Free text."})
        assert differences(topic, schema) == [
            f"{path}.comment".lstrip(".") + " is in the schema alone"
        ]
        holder["fields"].pop()


@pytest.mark.parametrize("topic", EVENTS)
def test_a_field_of_the_list_alone_is_told(topic: str) -> None:
    whole = schema_of(topic)
    first = whole["fields"].pop(0)
    lost = {path for path, _ in fields_of(first["type"], first["name"])}
    assert set(differences(topic, whole)) == {f"{path} is in the list alone" for path in lost}


@pytest.mark.parametrize("topic", EVENTS)
def test_a_field_that_becomes_a_text_is_told(topic: str) -> None:
    schema = schema_of(topic)
    at = next(f for f in schema["fields"] if f["type"] in ("int", "long", "bytes"))
    at["type"] = "string"
    assert [told.split()[0] for told in differences(topic, schema)] == [at["name"]]


def records_of(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every record of a schema that can be changed in place, with the path of its fields."""
    match schema:
        case list():
            for branch in schema:
                yield from records_of(branch, path)
        case {"type": "record"}:
            yield path, schema
            for field in schema["fields"]:
                yield from records_of(field["type"], f"{path}.{field['name']}".lstrip("."))
        case {"type": "array", "items": items}:
            yield from records_of(items, f"{path}[]")
        case _:
            return


def test_every_text_has_a_form_and_every_form_a_text() -> None:
    assert {holds for holds, _ in FIELDS.values()} <= HOLDS.keys()
    assert all(bool(form) == (holds == "text") for holds, form in FIELDS.values())
    assert {form for _, form in FIELDS.values() if form} == FORMS.keys()
    assert {form.words for form in FORMS.values() if form.words} == WORDS.keys()


@pytest.mark.parametrize("canary", CANARIES)
def test_no_form_but_that_of_our_own_people_takes_a_name_or_an_identifier(canary: str) -> None:
    taking = {name for name, form in FORMS.items() if form.takes(canary)}
    # A word of small letters may be the id of a source or a word of ours: no sender writes those.
    allowed = {name for name, form in FORMS.items() if form.told_by != "sender"}
    assert OURS <= taking <= allowed


@pytest.mark.parametrize("topic", sorted(EVENTS))
def test_the_examples_are_as_the_list_says(topic: str) -> None:
    kind = getattr(messages, EVENTS[topic])
    found = sorted((SCHEMAS / "examples" / topic).glob("*.json"))
    assert found
    for path in found:
        wire = bytes.fromhex(json.loads(path.read_text())["wire"])
        assert strangers(topic, codec().decode(wire, kind)) == [], path.name


def told(content: Any, offset: int = 0) -> list[tuple[str, bytes, list[str]]]:
    """What ingest writes of a message outside the PHI zone: topic, all bytes, texts amiss."""
    outputs = [o for o in ingest().handle([record(content, offset=offset)]) if o.topic not in PHI]
    events = [(o, getattr(messages, EVENTS[o.topic])) for o in outputs]
    return [
        (
            output.topic,
            (output.key or b"") + (output.value or b""),
            strangers(output.topic, codec().decode(output.value or b"", kind)),
        )
        for output, kind in events
    ]


def test_the_message_is_one_that_is_read() -> None:
    assert {topic for topic, _, _ in told(MESSAGE)} == {"vitals.v1", "receipts.v1", "patients.v1"}
    assert len(PLACES) > 90


@pytest.mark.parametrize("canary", CANARIES)
def test_a_canary_in_any_text_or_unknown_field_is_dropped_at_the_edge(canary: str) -> None:
    for place in PLACES:
        for topic, text, amiss in told(poisoned([place], canary)):
            assert canary.encode() not in text, (topic, place)
            assert amiss == [], place


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PLACES), max_size=8, unique=True), st.sampled_from(CANARIES))
def test_canaries_in_many_places_at_once_are_dropped(places: list[Place], canary: str) -> None:
    # A place inside one that was replaced by a text is gone: keep those that stand alone.
    alone = [p for p in places if not any(q != p and q == p[: len(q)] for q in places)]
    for _, text, amiss in told(poisoned(alone, canary)):
        assert canary.encode() not in text
        assert amiss == []


FORM_OF = {FEEDBACK: ANSWER, OUTCOMES: OUTCOME}


def heard(topic: str, content: Any) -> list[tuple[bytes, list[str]]]:
    """What is written, or answered instead: the bytes, and texts amiss."""
    hearing = Hearing(bytes(32), codec().encode, {FEEDBACK: 4, OUTCOMES: 4})
    take = hearing.feedback if topic == FEEDBACK else hearing.outcome
    try:
        said = take(Arrival("ward", NOW, NOW), json.dumps(content).encode())
    except Rejected as refused:
        return [(operation_outcome(refused) + problem(refused) + str(refused).encode(), [])]
    kind = getattr(messages, EVENTS[topic])
    return [
        (
            (record.key or b"") + (record.value or b""),
            strangers(topic, codec().decode(record.value or b"", kind)),
        )
        for record in said.records
    ]


@pytest.mark.parametrize("topic", FORM_OF)
@pytest.mark.parametrize("canary", CANARIES)
def test_a_canary_in_an_answer_or_outcome_is_refused_or_hashed(topic: str, canary: str) -> None:
    form = FORM_OF[topic]
    assert [amiss for _, amiss in heard(topic, form)] == [[]]
    for name in [*(n for n, value in form.items() if isinstance(value, str)), canary]:
        for text, amiss in heard(topic, {**form, name: canary}):
            assert canary.encode() not in text, name
            assert amiss == [], name


def test_patterns_are_read_as_they_are_written() -> None:
    for name, form in FORMS.items():
        assert form.pattern or form.words, name
        re.compile(form.pattern)
