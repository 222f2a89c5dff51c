"""What is read in one look is what a careful reading says, of whatever may be sent."""

import itertools
import json
import random

import pytest
from bad_inputs import ACCEPTED, REFUSED
from builders import (
    PSEUDONYM_KEY,
    Resource,
    blood_pressure,
    body,
    bundle,
    concept,
    encounter,
    observation,
    patient,
    quantity,
    read,
    record,
)
from careful import Both, plain
from hypothesis import given
from hypothesis import strategies as st
from mutation import mutants

from services.core.errors import Refusal
from services.core.pseudonyms import encounter_pseudonym
from services.ingest.normalise.links import are_ids, check_id
from services.ingest.normalise.message import Reader

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


ROUND = (
    bundle(
        *(observation(id=f"a-{n}", subject={"reference": f"Patient/{n % 3}"}) for n in range(9))
    ),
    bundle(
        observation(id="a", meta={"versionId": "2"}), observation(id="b"), observation("2089-1")
    ),
    bundle(*(observation(id=f"{n}", device={"reference": f"Device/{n % 2}"}) for n in range(5))),
    bundle(
        observation(issued="2026-01-05T07:00:00Z"),
        *PLAIN,
        observation("2708-6", valueQuantity=quantity(97, "%")),
    ),
    bundle(blood_pressure(120, 80), observation(valueQuantity=quantity(190, "/min"))),
    bundle(*(observation(id=f"{n}") for n in range(200))),
    bundle(observation("2089-1"), observation("2089-1")),
    bundle(),
)


def agree(sent: Resource | bytes) -> bool:
    return Both().agree_on(sent)


@pytest.mark.parametrize("content", [*PLAIN, *BUNDLES, *ROUND])
def test_what_monitors_send_is_read_in_one_look(
    content: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful = Both().careful.handle([record(content)])
    monkeypatch.setattr(Reader, "entry", None)  # nobody looks closer
    assert Both().quick.handle([record(content)]) == careful


def test_observations_among_people_and_stays_are_read_in_one_look() -> None:
    for entries in itertools.permutations((patient(), encounter(), *PLAIN[:3])):
        content = bundle(*entries)
        found = plain(body(content))
        assert found is not None
        assert [seen is not None for seen in found] == [
            entry["resourceType"] == "Observation" for entry in entries
        ]
        assert agree(body(content))


@pytest.mark.parametrize("ratio", [(120, 80), (80, 120)])
def test_readings_of_one_event_are_joined_however_each_was_read(ratio: tuple[int, int]) -> None:
    high, low = (
        observation(code, id=code, valueQuantity=quantity(value, "mm[Hg]"))
        for code, value in zip(("8480-6", "8462-4"), ratio, strict=True)
    )
    odd = [observation(id="o", status=status) for status in ("preliminary", "entered-in-error")]
    nameless = observation(id=None)
    for entries in itertools.permutations((high, low, *odd, nameless)):
        assert agree(bundle(*entries))
        assert agree(bundle(patient(), *entries, encounter()))


@pytest.mark.parametrize("content", NEARLY)
def test_what_is_not_plain_is_read_as_carefully_among_people_and_stays(content: Resource) -> None:
    sent = bundle(patient(), content, *PLAIN[:2])
    sent["entry"].append(STAY)
    assert agree(body(sent))
    assert agree(body(bundle(*PLAIN[:2], content)))


def test_a_stay_of_the_same_bundle_is_found_by_its_full_url() -> None:
    sent = bundle(observation(encounter={"reference": "urn:uuid:1"}))
    sent["entry"].append(STAY)
    assert agree(sent)
    (event, _), _, _ = read(sent)
    assert event.encounter == encounter_pseudonym(PSEUDONYM_KEY, "west", STAY["resource"]["id"])


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


@given(st.lists(st.text(",./-aZ9é\n", max_size=3) | st.sampled_from(["a" * 64, "a" * 65])))
def test_ids_are_checked_together_as_one_by_one(texts: list[str]) -> None:
    assert are_ids(texts) == all(is_id(text) for text in texts)


def is_id(text: str) -> bool:
    try:
        return check_id(text, "id") == text
    except Refusal:
        return False
