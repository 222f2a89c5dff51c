"""Every case of bad_inputs.tsv has a test: what a source sends here, the others where told."""

import csv
import gzip
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import bad_inputs as room
import cramjam
import pytest
from builders import Resource, body, codec, ingest, observation, patient, record

from services.core.errors import Reason
from services.core.events import Fate, Vitals
from services.ingest.normalise.message import CLOCK_SKEW

if TYPE_CHECKING:
    from services.runtime.ports import Output

SCORING, CODEC, MODEL = "test_scoring_dispositions.py", "test_codec.py", "test_model.py"
STREAM, LABELS, DOOR = "test_scoring_stream.py", "test_labelling.py", "test_gateway_feedback.py"
ELSEWHERE = {
    "D06": ("test_normalise.py", "test_a_merge_of_patients_is_refused_by_its_name"),
    "P03": ("test_suspicion.py", "test_p03_a_value_frozen_500_times_is_flagged"),
    "K01": ("test_dead_letters.py", "test_a_record_without_a_value_is_a_tombstone"),
    "K02": (SCORING, "test_whatever_a_record_holds_it_has_one_entry"),
    "K03": (CODEC, "test_other_framing_is_refused"),
    "K04": ("test_dead_letters.py", "test_a_header_that_is_none_is_refused_by_its_name"),
    "K05": ("test_bad_inputs.py", "test_a_dead_letter_opens_to_what_was_received_unless"),
    "K06": ("test_gateway.py", "test_a_source_without_its_token_is_401_before_its_body_is_read"),
    "A01": (CODEC, "test_a_hostile_length_costs_no_memory"),
    "A02": ("../contract/test_schemas.py", "test_no_schema_can_call_itself"),
    "A03": (CODEC, "test_trailing_bytes_are_refused_where_they_begin"),
    "A04": (CODEC, "test_a_number_that_is_none_is_refused_by_name"),
    "A05": (
        "../contract/test_schemas.py",
        "test_todays_schemas_live_with_every_schema_of_the_past",
    ),
    "A06": (CODEC, "test_a_message_of_the_past_is_read_by_its_own_schema"),
    "M01": (SCORING, "test_too_little_or_too_old_input_gives_no_score_and_its_cause"),
    "M02": (MODEL, "test_an_output_that_is_no_probability_stops"),
    "M03": (MODEL, "test_a_graph_with_data_outside_the_bundle_is_refused"),
    "L01": (LABELS, "test_what_nobody_ever_knows_is_a_dead_letter_after_seven_days"),
    "L02": ("test_gateway.py", "test_who_answers_is_identified_as_who_sends"),
    "L03": (DOOR, "test_no_body_does_worse_than_a_refusal_which_repeats_nothing"),
}
"""Cases of other rooms: the file and the test that shows each."""
HERE = ("J15", "F14", "T06", "D08")

GOOD = room.GOOD
SHARES = (1, 10, 50)
MESSAGES = 100
GROWTH = 64 << 20
EXPANDED = b" " * (1 << 20)
BOMBS = {"gzip": gzip.compress(EXPANDED), "zstd": bytes(cramjam.zstd.compress(EXPANDED))}


def cases() -> list[tuple[str, Resource | bytes]]:
    return [(f"{c.case}-{c.reason}", c.content) for c in room.REFUSED]


def resident() -> int:
    """Memory of this process, bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.data
def test_every_case_of_the_contract_is_accounted_for_once() -> None:
    if not room.CONTRACT.exists():
        pytest.skip(reason="needs ../shared/spec/bad_inputs.tsv")
    with room.CONTRACT.open() as file:
        ids = [row["id"] for row in csv.DictReader(file, delimiter="\t")]
    assert len(ids) == 74
    assert sorted([*room.COVERED, *HERE, *ELSEWHERE]) == sorted(ids)


@pytest.mark.parametrize("case", ELSEWHERE)
def test_the_test_of_another_room_exists(case: str) -> None:
    file, name = ELSEWHERE[case]
    source = (Path(__file__).parent / file).read_text()
    assert re.search(rf"^(async )?def {name}", source, re.MULTILINE)


@pytest.mark.parametrize("case", room.COVERED)
def test_a_case_of_this_room_is_in_its_tables_or_has_a_test_of_its_name(case: str) -> None:
    named = {c.case for c in room.REFUSED} | {c.case for c in room.ACCEPTED}
    source = Path(__file__).with_name("test_bad_inputs.py").read_text()
    tests = {name.upper() for name in re.findall(r"^def test_([a-z]\d\d)_", source, re.MULTILINE)}
    assert case in named | tests


@pytest.mark.parametrize("place", room.PLACES.values(), ids=room.PLACES.keys())
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_j15_what_is_compressed_is_refused_unexpanded(bomb: bytes, place: int) -> None:
    before = resident()
    outputs = list(ingest().handle(room.among_good(bomb, place)))
    (letter,) = room.letters(outputs)
    assert (letter.reason, letter.offset) == (Reason.DECOMP_BOMB, place)
    assert len(room.events(outputs)) == GOOD
    assert resident() - before < GROWTH


HOSTILE = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY xxe SYSTEM "file:///etc/passwd">]>'
    '<div xmlns="http://www.w3.org/1999/xhtml"><script>alert("Zebediah")</script>&xxe;</div>'
)


def test_f14_a_narrative_is_never_looked_at() -> None:
    plain = list(ingest().handle([record(observation())]))
    told = list(ingest().handle([record(observation(text={"status": "x", "div": HOSTILE}))]))
    assert room.events(plain) == room.events(told)
    assert not any(b"Zebediah" in (output.value or b"") for output in told)


def fates(content: Resource, received: str = "2026-01-05T08:00:30Z") -> list[tuple[Fate, str]]:
    (receipt,) = room.receipts(list(ingest().handle([record(content, received=received)])))
    return [(entry.fate, entry.detail) for entry in receipt.entries]


def test_t06_times_that_contradict_each_other_are_kept_and_told() -> None:
    early = observation(issued="2026-01-05T07:59:59Z")
    (event,) = room.events(list(ingest().handle([record(early)])))
    assert event.measured_at < event.received_at
    assert fates(early) == [(Fate.VITALS, CLOCK_SKEW)]
    assert fates(observation(), "2026-01-05T09:00:00Z") == [(Fate.VITALS, CLOCK_SKEW)]
    for usual in (
        observation(issued="2026-01-05T08:00:00Z"),
        observation(issued="yesterday"),
        observation(issued=[1]),
    ):
        assert fates(usual) == [(Fate.VITALS, "")]
    late = room.measured("2160-0", 1.0, "mg/dL", "laboratory")
    assert fates(late, "2026-01-05T12:00:00Z") == [(Fate.VITALS, "")], "a laboratory takes hours"


def test_d08_a_flood_of_new_patients_fills_no_memory() -> None:
    task = ingest()
    list(task.handle([record(body_of("first"))]))
    before, seen = resident(), set[bytes]()
    for start in range(0, 20_000, 500):
        flood = [record(body_of(f"flood-{start + n}"), offset=n) for n in range(500)]
        seen.update(o.key or b"" for o in task.handle(flood) if o.topic == "identity.v1")
    assert len(seen) == 20_000
    assert resident() - before < GROWTH


BODY = body(observation())


def body_of(name: str) -> bytes:
    return BODY.replace(b"Patient/p-1", f"Patient/{name}".encode())


def usual(number: int) -> Resource:
    return observation(id=f"good-{number}") if number % 9 else patient(id=f"p-{number}")


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("case", [c[1] for c in cases()], ids=[c[0] for c in cases()])
def test_at_any_share_of_bad_messages_each_good_one_is_read(
    case: Resource | bytes, share: int
) -> None:
    bad = {n for n in range(MESSAGES) if n * share % 100 < share}
    large = isinstance(case, bytes) and len(case) > 1 << 20
    whole = [case if n in bad else usual(n) for n in range(MESSAGES // 10 if large else MESSAGES)]
    outputs: list[Output] = []
    task, before = ingest(), resident()
    for start in range(0, len(whole), 20):
        part = [record(each, offset=start + i) for i, each in enumerate(whole[start : start + 20])]
        outputs += task.handle(part)
    assert resident() - before < GROWTH
    expected = [n in bad for n in range(len(whole))]
    assert [
        any(e.fate is Fate.DEAD for e in r.entries) for r in room.receipts(outputs)
    ] == expected
    read = {
        codec().decode(o.value or b"", Vitals).raw_offset
        for o in outputs
        if o.topic == "vitals.v1"
    }
    assert read == {n for n, refused in enumerate(expected) if not refused}
