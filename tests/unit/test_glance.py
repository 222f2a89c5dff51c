"""What is seen at a glance has the bytes of what is read with care, of whatever may be sent."""

import itertools
import random
from typing import Any

import pytest
from bad_inputs import ACCEPTED, REFUSED
from builders import (
    PSEUDONYM_KEY,
    Resource,
    blood_pressure,
    body,
    bundle,
    codec,
    encounter,
    message,
    observation,
    patient,
    quantity,
    record,
    terminology,
)
from builders import ingest as ingest_task
from msgspec.structs import replace
from mutation import mutants
from typing_extensions import override

from services.core.errors import Refusal
from services.ingest.glance import Glance, Kept
from services.ingest.normalise.assemble import Assembler
from services.ingest.normalise.findings import Message
from services.ingest.normalise.message import CLOCK_SKEW, Reader
from services.ingest.wire import Wire
from services.runtime.ports import Output, Record

DAMAGED = 8_000
SHARES = 4
WIRE = Wire(codec())
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


def glance() -> Glance:
    return Glance(terminology(), PSEUDONYM_KEY, WIRE)


def with_care(given: Message) -> Any:
    """The events of a message and the details told of its entries; None of one that is refused."""
    reader = Reader(given, terminology())
    try:
        entries = reader.entries()
    except Refusal:
        return None
    assembler = Assembler(given, PSEUDONYM_KEY, terminology().version)
    found = assembler.events([(i, e.finding) for i, e in enumerate(entries) if e.finding])
    return [WIRE.vitals(event) for event in found], [entry.detail for entry in entries]


def agree(eye: Glance, sent: bytes) -> bool:
    """Whether a body is seen; what is seen is what care reads, or the test has failed."""
    given = message(sent)
    seen = eye.look(given)
    if seen:
        assert with_care(given) == ([seen.event], [CLOCK_SKEW if seen.skewed else ""])
    return bool(seen)


@pytest.mark.parametrize("content", SEEN)
def test_what_monitors_send_is_seen_at_a_glance(content: Resource) -> None:
    eye = glance()
    assert agree(eye, body(content))
    assert agree(eye, body(content)), "the second time it is remembered"


@pytest.mark.parametrize("content", NOT_SEEN)
def test_what_is_not_plain_and_usual_is_left_to_a_careful_look(content: Resource) -> None:
    assert not agree(glance(), body(content))


def test_no_case_of_the_input_contract_is_seen_otherwise_than_with_care() -> None:
    eye = glance()
    for case in (*REFUSED, *ACCEPTED):
        agree(eye, body(case.content))
    for case in REFUSED:
        assert not agree(eye, body(case.content))


@pytest.mark.parametrize("seed", range(SHARES))
def test_damage_is_never_overlooked(seed: int) -> None:
    eye, bodies = glance(), [body(content) for content in (*SEEN, *SEEN, *NOT_SEEN)]
    damaged = mutants(bodies, random.Random(seed))  # noqa: S311 - no secret
    seen = sum(agree(eye, sent) for sent in itertools.islice(damaged, DAMAGED // SHARES))
    assert seen > DAMAGED // SHARES // 50, "too little of it is seen still"


def test_sources_do_not_share_what_is_remembered() -> None:
    eye = glance()
    for source in ("west", "east", "west"):
        given = message(observation(**FURNISHED), source=source)
        seen = eye.look(given)
        assert seen
        assert with_care(given) == ([seen.event], [""])


class Blind(Glance):
    """Sees nothing."""

    @override
    def look(self, message: Message) -> None:
        return None


def outputs_of(task: Any, records: list[Record]) -> list[Output]:
    return list(task.handle(records))


def test_a_record_leads_to_the_same_outputs_whether_it_is_seen_or_read() -> None:
    contents = (*SEEN, *NOT_SEEN, *(case.content for case in REFUSED))
    records = [record(content, offset=n << 11) for n, content in enumerate(contents)]
    told: list[Any] = [[], []]
    quick, careful = ingest_task(told[0].extend), ingest_task(told[1].extend)
    careful._glance = Blind(terminology(), PSEUDONYM_KEY, WIRE)
    assert outputs_of(quick, records) == outputs_of(careful, records)
    assert told[0] == told[1]
    assert sum(quick._glance.look(message(content)) is not None for content in contents)


def test_a_name_is_never_that_of_the_message_before() -> None:
    eye = glance()
    for number in range(3):
        given = replace(message(observation()), ingest_id=f"{number:032x}", offset=number << 14)
        seen = eye.look(given)
        assert seen
        assert with_care(given) == ([seen.event], [""])


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
