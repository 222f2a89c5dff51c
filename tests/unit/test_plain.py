"""What is read in one look is what a careful reading says, of whatever may be sent."""

import itertools
import json
import random
from typing import Any

import pytest
from bad_inputs import ACCEPTED, REFUSED
from builders import (
    Resource,
    blood_pressure,
    body,
    bundle,
    concept,
    encounter,
    message,
    observation,
    patient,
    quantity,
    terminology,
)
from hypothesis import given
from hypothesis import strategies as st
from mutation import mutants

from services.core.errors import Refusal
from services.ingest.normalise.findings import Measured
from services.ingest.normalise.forms import plain
from services.ingest.normalise.message import Reader
from services.ingest.normalise.plain import read_plain

DAMAGED = 20_000
SHARES = 4
FURNISHED: Resource = {
    "meta": {"versionId": "3", "lastUpdated": "2026-01-05T08:00:00Z", "profile": ["urn:vitals"]},
    "identifier": [{"system": "urn:device", "value": "7"}],
    "issued": "2026-01-05T08:00:01Z",
    "device": {"reference": "Device/monitor-7", "display": "Monitor"},
    "performer": [{"reference": "Practitioner/1", "display": "N."}],
    "referenceRange": [{"low": quantity(50, "/min"), "high": quantity(90, "/min")}],
    "text": {"status": "generated", "div": '<div>80 "beats" / min</div>'},
}
PLAIN = (
    observation(),
    observation(**FURNISHED),
    blood_pressure(120, 80),
    observation("8310-5", valueQuantity=quantity(98.6, "[degF]")),
    observation(valueQuantity={**quantity(80, "/min"), "unit": "beats/minute"}),
)
BUNDLES = (
    bundle(*PLAIN),
    bundle(observation(id="a"), observation(id="b"), blood_pressure(90, 50)),
)
STAY: Resource = {"fullUrl": "urn:uuid:1", "resource": encounter()}
NEARLY = (
    observation("2089-1"),
    observation(valueQuantity=quantity(0, "/min")),
    observation(valueQuantity=quantity(290, "/min")),
    observation(status="preliminary"),
    observation(status="entered-in-error"),
    observation(component=[]),
    observation(component=[{"code": concept("8480-6"), "valueQuantity": quantity(90, "mm[Hg]")}]),
    observation(id="a/b"),
    observation(subject={"reference": "urn:uuid:1"}),
    observation(encounter={"reference": "urn:uuid:1"}),
    observation(encounter={"reference": "Patient/p-1"}),
    observation(meta={"versionId": "x", "lastUpdated": "never"}),
    observation(issued="2026-01-05T07:00:00Z"),
    observation(effectiveDateTime="2026-01-05T06:00:00Z"),
    observation(device={"display": "Monitor"}),
    blood_pressure(80, 120),
)


def told(sent: bytes, *, plainly: bool) -> Any:
    """All that a reading says of a body."""
    try:
        reader = Reader(message(sent), terminology())
        if not plainly:
            reader._plain = reader._nothing_plain()
        return reader.entries(), reader.refused
    except Refusal as refusal:
        return refusal.reason, refusal.place


def agree(sent: bytes) -> bool:
    return repr(told(sent, plainly=True)) == repr(told(sent, plainly=False))


@pytest.mark.parametrize("content", PLAIN)
def test_what_monitors_send_is_read_in_one_look(content: Resource) -> None:
    sent = message(content)
    found = plain(sent.body)
    assert found is not None
    (seen,) = found
    assert seen is not None
    assert isinstance(read_plain(seen, terminology(), sent.received_at), Measured)
    assert agree(sent.body)


def test_a_bundle_of_what_monitors_send_is_read_in_one_look() -> None:
    for content in BUNDLES:
        assert len(plain(body(content)) or ()) == len(content["entry"])
        assert agree(body(content))


def test_observations_among_people_and_stays_are_read_in_one_look() -> None:
    for entries in itertools.permutations((patient(), encounter(), *PLAIN[:3])):
        content = bundle(*entries)
        found = plain(body(content))
        assert found is not None
        assert [seen is not None for seen in found] == [
            entry["resourceType"] == "Observation" for entry in entries
        ]
        assert agree(body(content))


@pytest.mark.parametrize("content", NEARLY)
def test_what_is_not_plain_is_read_as_carefully_among_people_and_stays(content: Resource) -> None:
    sent = bundle(patient(), content, *PLAIN[:2])
    sent["entry"].append(STAY)
    assert agree(body(sent))
    assert agree(body(bundle(*PLAIN[:2], content)))


def test_a_stay_of_the_same_bundle_is_found_by_its_full_url() -> None:
    sent = bundle(observation(encounter={"reference": "urn:uuid:1"}))
    sent["entry"].append(STAY)
    read = told(body(sent), plainly=True)
    assert read[0][0].finding.encounter == STAY["resource"]["id"]
    assert agree(body(sent))


@pytest.mark.parametrize("content", [case.content for case in (*REFUSED, *ACCEPTED)] + [*NEARLY])
def test_what_is_not_plain_is_read_as_carefully_as_ever(content: Resource | bytes) -> None:
    assert agree(body(content))
    good = [observation(id="first"), {"in": "the middle"}, observation(id="last")]
    around = body(bundle(*good)).split(b'{"in": "the middle"}')
    assert agree(body(content).join(around))
    assert agree(body(bundle(patient(), encounter(), observation())).replace(b"{", b"{ "))


@pytest.mark.parametrize("seed", range(SHARES))
def test_damage_is_told_as_carefully_as_ever(seed: int) -> None:
    mixed = [bundle(patient(), *PLAIN, encounter()), bundle(*PLAIN, *NEARLY)]
    bodies = [body(content) for content in (*PLAIN, *PLAIN, *BUNDLES, *mixed, *NEARLY)]
    damaged = mutants(bodies, random.Random(seed))  # noqa: S311 - no secret
    taken = 0
    for sent in itertools.islice(damaged, DAMAGED // SHARES):
        assert agree(sent)
        taken += len(sent) < 1 << 20 and plain(sent) is not None
    assert taken > DAMAGED // SHARES // 50, "too little of it is plain still"


@given(
    key=st.sampled_from(["system", "code", "display", "coding", "text", "value", "reference"]),
    second=st.sampled_from(['"x"', '"8310-5"', "[]", "1", "null", "{}", '"\\u0022"']),
    place=st.integers(0, 20),
)
def test_a_key_doubled_anywhere_is_seen(key: str, second: str, place: int) -> None:
    sent = json.dumps(observation(**FURNISHED))
    starts = [at for at in range(len(sent)) if sent[at] == "{"]
    at = starts[place % len(starts)] + 1
    assert agree((sent[:at] + f'"{key}": {second}, ' + sent[at:]).encode())


def test_a_code_that_is_remembered_is_no_excuse_for_what_stands_beside_it() -> None:
    for content in (*PLAIN, *NEARLY):
        sent = body(content)
        assert agree(sent)
        doubled = sent.replace(b'"coding": [', b'"coding": [], "coding": [')
        deep = sent.replace(b'"coding": [', b'"x": ' + b"[" * 29 + b"]" * 29 + b', "coding": [')
        great = sent.replace(b'"coding": [', b'"x": ' + b"9" * 40 + b', "coding": [')
        for odd in (doubled, deep, great):
            assert agree(odd)
            assert agree(
                body(bundle(observation(), {"in": 1}, observation())).replace(b'{"in": 1}', odd)
            )
