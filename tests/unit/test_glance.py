"""What is seen at a glance has the bytes of what is read with care, of whatever may be sent."""

import itertools
import random

import pytest
from bad_inputs import ACCEPTED, REFUSED
from builders import (
    Resource,
    blood_pressure,
    body,
    bundle,
    encounter,
    message,
    observation,
    patient,
    quantity,
    record,
)
from careful import Both
from msgspec.structs import replace
from mutation import mutants

from services.ingest.habits import Kept
from services.ingest.normalise.forms import alone
from services.ingest.pipeline import Ingest

DAMAGED = 8_000
SHARES = 4
FURNISHED: Resource = {
    "meta": {"versionId": "3", "lastUpdated": "2026-01-05T08:00:00Z", "profile": ["urn:vitals"]},
    "issued": "2026-01-05T08:00:01Z",
    "device": {"reference": "Device/monitor-7", "display": "Monitor"},
    "performer": [{"reference": "Practitioner/1", "display": "N."}],
    "text": {"status": "generated", "div": '<div>80 "beats" / min</div>'},
}
SEEN = (
    observation(),
    observation(**FURNISHED),
    observation(encounter=None),
    observation("8310-5", valueQuantity=quantity(98.6, "[degF]")),
    observation(subject={"reference": "Patient/p-2/_history/4"}),
    observation(status="amended", meta={"lastUpdated": "2026-01-05T08:00:00Z"}),
    observation(effectiveDateTime="2026-01-05T06:00:00Z"),  # a wrong clock, perhaps
    observation(issued="2026-01-05T07:00:00Z"),
    observation(id="o.-1"),
)
NOT_SEEN = (
    blood_pressure(120, 80),
    bundle(observation()),
    patient(),
    encounter(),
    observation("2089-1"),
    observation(valueQuantity=quantity(0, "/min")),
    observation(valueQuantity=quantity(350, "/min")),
    observation(status="preliminary"),
    observation(status="entered-in-error"),
    observation(id="a/b"),
    observation(id=".."),
    observation(subject={"reference": "urn:uuid:1"}),
    observation(effectiveDateTime="2036-01-05T06:00:00Z"),
    observation(modifierExtension=[]),
)


def seen(task: Ingest, sent: Resource | bytes) -> bool:
    """Whether a message is one plain Observation that is seen at a glance."""
    given = message(sent)
    found = alone(given.body, bytearray())
    return found is not None and task._glance._alone(given, found) is not None


@pytest.mark.parametrize("content", SEEN)
def test_what_monitors_send_is_seen_at_a_glance(content: Resource) -> None:
    both = Both()
    assert seen(both.quick, content)
    assert both.agree_on(content)
    assert both.agree_on(content), "the second time it is remembered"


@pytest.mark.parametrize("content", NOT_SEEN)
def test_what_is_not_plain_and_usual_is_left_to_a_careful_look(content: Resource) -> None:
    both = Both()
    assert not seen(both.quick, content)
    assert both.agree_on(content)


def test_no_case_of_the_input_contract_is_seen_otherwise_than_with_care() -> None:
    both = Both()
    for case in (*REFUSED, *ACCEPTED):
        assert both.agree_on(case.content)
    for case in REFUSED:
        assert not seen(both.quick, case.content)


@pytest.mark.parametrize("seed", range(SHARES))
def test_damage_is_never_overlooked(seed: int) -> None:
    both, bodies = Both(), [body(content) for content in (*SEEN, *SEEN, *NOT_SEEN)]
    damaged = mutants(bodies, random.Random(seed))  # noqa: S311 - no secret
    found = 0
    for sent in itertools.islice(damaged, DAMAGED // SHARES):
        assert both.agree_on(sent)
        found += seen(both.quick, sent)
    assert found > DAMAGED // SHARES // 50, "too little of it is seen still"


def test_sources_do_not_share_what_is_remembered() -> None:
    both, content = Both(), observation(**FURNISHED)
    for source in (b"west", b"east", b"west"):
        given = record(content)
        headers = [(n, source if n == "source" else v) for n, v in given.headers]
        assert both.agree(replace(given, headers=tuple(headers)))


def test_records_lead_to_the_same_outputs_whether_they_are_seen_or_read() -> None:
    contents = (*SEEN, *NOT_SEEN, *(case.content for case in REFUSED))
    records = [record(content, offset=n << 11) for n, content in enumerate(contents)]
    assert Both().agree(*records, *records)


def test_what_is_remembered_is_bounded() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return -key

    kept = Kept(make)
    for key in range(20_000):
        assert kept[key] == -key
        assert kept[key] == -key
    assert len(made) == len(set(made)) == 20_000
    assert len(kept) <= 8192
