import json
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from builders import (
    PARTITIONS,
    PAYLOAD_KEY,
    PSEUDONYM_KEY,
    SCHEMAS,
    Resource,
    body,
    bundle,
    codec,
    ingest,
    observation,
    patient,
    quantity,
    record,
    tick,
    vault,
)
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from services.cli import dlq
from services.cli.diagnosis import diagnose
from services.cli.letters import Fate as Met
from services.cli.letters import Wish, again_as, fate, handed_in, order
from services.core.errors import CommandError, ExitCode, Reason, Refusal
from services.core.events import DeadLetter, Fate, Receipt, Vitals
from services.ingest.normalise.envelope import message_of
from services.ingest.pipeline import Ingest
from services.ingest.tables import read_terminology
from services.ingest.wire import Wire
from services.runtime.ports import Headers, Output, Record
from services.runtime.vault import Vault

NAMED = (
    observation(status=None, Zebediah=1),
    observation(code={"Zebediah": 3}),
    observation(valueQuantity=quantity("Zebediah", "Zebediah")),
    observation(effectiveDateTime="Zebediah", subject={"reference": {"Zebediah": 3}}),
    patient(birthDate="Zebediah", name=[{"Zebediah": "Zebediah"}], gender=["Zebediah"]),
    bundle(observation(status=None), {"resourceType": "Zebediah"}, {"Zebediah": 1}),
    {"resourceType": "Zebediah"},
    {"Zebediah": "Zebediah"},
)


def letters(outputs: list[Output]) -> list[DeadLetter]:
    found = [output.value or b"" for output in outputs if output.topic == "dlq.v1"]
    return [codec().decode(value, DeadLetter) for value in found]


def letter_of(received: Record) -> DeadLetter:
    (letter,) = letters(list(ingest().handle([received])))
    return letter


def with_headers(headers: Headers) -> Record:
    good = record(observation())
    return Record(good.topic, 0, 7, good.timestamp_ms, good.key, good.value, headers)


GOOD_HEADERS = record(observation()).headers


@pytest.mark.parametrize("name", [name for name, _ in GOOD_HEADERS])
def test_a_record_without_a_header_is_refused_by_its_name(name: str) -> None:
    letter = letter_of(with_headers(tuple(h for h in GOOD_HEADERS if h[0] != name)))
    assert (letter.reason, letter.place, letter.source) == (Reason.HEADER, name, "unknown")


@pytest.mark.parametrize(
    "header",
    [
        ("source", None),
        ("source", b""),
        ("source", b"\xff"),
        ("source", b"a\nb"),
        ("source", b"x" * (1 << 20)),
        ("received_at", b"yesterday"),
        ("received_at", b"-1"),
        ("accepted_at", b"9" * 40),
        ("content-type", b"text/html"),
    ],
)
def test_a_header_that_is_none_is_refused_by_its_name(header: tuple[str, bytes | None]) -> None:
    others = tuple(h for h in GOOD_HEADERS if h[0] != header[0])
    letter = letter_of(with_headers((*others, header)))
    assert (letter.reason, letter.place) == (Reason.HEADER, header[0])


def test_a_header_that_comes_twice_is_refused_and_unknown_ones_do_not_matter() -> None:
    assert letter_of(with_headers((*GOOD_HEADERS, GOOD_HEADERS[1]))).place == "source"
    many = (*GOOD_HEADERS, *[(f"x-{i}", b"\xff") for i in range(100)])
    assert letters(list(ingest().handle([with_headers(many)]))) == []


ODD = st.sampled_from(
    [None, b"", b"1", b"west", b"west\n1", b"\n", b"0" * 32, b"application/json"]
)


@given(odd=st.dictionaries(st.sampled_from([name for name, _ in GOOD_HEADERS]), ODD))
def test_headers_say_the_same_in_any_order(odd: dict[str, bytes | None]) -> None:
    headers = tuple((name, odd.get(name, value)) for name, value in GOOD_HEADERS)

    def told(given: Headers) -> object:
        try:
            return message_of(given, b"{}", partition=0, offset=0)
        except Refusal as refusal:
            return refusal.reason

    assert told(headers) == told(headers[::-1])


def test_a_record_without_a_value_is_a_tombstone() -> None:
    good = record(observation())
    bare = Record(good.topic, 0, 7, good.timestamp_ms, good.key, None, good.headers)
    letter = letter_of(bare)
    assert (letter.reason, letter.length, letter.offset) == (Reason.TOMBSTONE, 0, 7)


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2026-01-05T08:05:31Z", Reason.TIME_FUTURE),
        ("2026-01-05T08:00:00", Reason.TIME_FORMAT),
        ("soon", Reason.TIME_FORMAT),
    ],
)
def test_a_tick_that_tells_no_time_of_ours_is_refused(time: str, reason: Reason) -> None:
    assert letter_of(tick(time)).reason == reason


class Broken:
    """Stands in for a table and fails as no table should."""

    version = "0" * 12

    def __getattr__(self, name: str) -> object:
        raise LookupError("Zebediah")


def test_an_unexpected_exception_is_a_dead_letter_with_its_type_and_no_text() -> None:
    broken = Ingest(
        terminology=Broken(),  # type: ignore[arg-type]  # the point of the test
        pseudonym_key=bytes(32),
        vault=vault,
        codec=codec(),
        partitions=4,
        on_receipts=lambda _: None,
    )
    outputs = list(broken.handle([record(bundle(observation(), observation()))]))
    found = letters(outputs)
    assert [(x.reason, x.place, x.entry) for x in found] == [
        (Reason.UNEXPECTED, "LookupError", 0),
        (Reason.UNEXPECTED, "LookupError", 1),
    ]
    assert all(b"Zebediah" not in (output.value or b"") for output in outputs)


def test_a_failure_outside_the_entries_refuses_the_whole_record() -> None:
    class Failing(Wire):
        @override
        def vitals(self, event: Vitals) -> bytes:
            raise ArithmeticError(event.source)

    failing = ingest()
    failing._wire = Failing(codec())
    # It writes a person's event; those of plain Observations are written where they are read.
    (letter,) = letters(list(failing.handle([record(bundle(observation(), patient()))])))
    assert (letter.reason, letter.place, letter.entry) == ("UNEXPECTED", "ArithmeticError", -1)


ELEMENTS = st.sampled_from(sorted(observation())) | st.text(max_size=5)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ELEMENTS, inner, max_size=6),
    max_leaves=20,
)


@given(content=ANYTHING)
def test_no_exception_leaves_the_handler_and_every_record_has_its_receipt(content: object) -> None:
    parts = content if isinstance(content, dict) else {"value": content}
    mixed: Resource = {**observation(), **{k: v for k, v in parts.items() if k != "resourceType"}}
    for message in (
        body(mixed),
        json.dumps(content).encode(errors="replace"),
        body(bundle(mixed)),
    ):
        outputs = list(ingest().handle([record(message)]))
        receipts = [o.value or b"" for o in outputs if o.topic == "receipts.v1"]
        (receipt,) = [codec().decode(value, Receipt) for value in receipts]
        assert [e for e in receipt.entries if e.detail == Reason.UNEXPECTED] == []
        dead = [entry for entry in receipt.entries if entry.fate is Fate.DEAD]
        assert len(dead) == len(letters(outputs))


@given(data=st.data())
def test_a_damaged_message_is_read_or_refused_and_never_raises(data: st.DataObject) -> None:
    good = body(bundle(observation(), patient(), observation(id="o-2")))
    at = data.draw(st.integers(0, len(good) - 1))
    length = data.draw(st.integers(0, 20))
    damaged = good[:at] + data.draw(st.binary(max_size=10)) + good[at + length :]
    outputs = list(ingest().handle([record(damaged), record(observation())]))
    assert outputs[-1].topic == "receipts.v1"
    reasons = [letter.reason for letter in letters(outputs)]
    assert Reason.UNEXPECTED not in reasons


@pytest.mark.parametrize("content", NAMED, ids=range(len(NAMED)))
def test_a_diagnosis_names_places_and_no_value(content: Resource) -> None:
    told = json.dumps(diagnose(body(content)))
    assert "Zebediah" not in told
    assert told != "[]"


def test_a_diagnosis_names_what_is_missing() -> None:
    assert diagnose(body(observation(status=None)))[0]["place"] == "Observation.status"
    assert diagnose(body(observation())) == []
    assert diagnose(b"\xff{")[0]["place"] == "document"


def test_a_letter_is_described_without_its_payload() -> None:
    received = record(observation(status="Zebediah"))
    letter = letter_of(received)
    row = dlq.described(Record("dlq.v1", 2, 17, 0, None, None), letter)
    assert (row["letter"], row["reason"], row["place"]) == (
        "2-17",
        "FHIR_STATUS",
        "Observation.status",
    )
    assert row["received_at"] == "2026-01-05T08:00:30+00:00"
    assert "payload" not in row
    assert dlq.table([row])[1].startswith("2-17")
    assert dlq.table([]) == []


@pytest.mark.parametrize("text", ["", "2", "2-", "-3", "a-b", "2-17-1"])
def test_what_names_no_letter_is_a_wrong_use(text: str) -> None:
    with pytest.raises(CommandError) as caught:
        dlq._place(text)
    assert caught.value.exit_code is ExitCode.USAGE


def test_reading_zero_looks_at_the_digits_as_they_were_written() -> None:
    zero = body(observation(valueQuantity=quantity(0, "/min")))
    assert letters(list(ingest().handle([record(zero)]))) == []
    shrunk = zero.replace(b'"value": 0', b'"value": 0.1e-400')
    assert [x.reason for x in letters(list(ingest().handle([record(shrunk)])))] == [
        "NUM_UNDERFLOW"
    ]


BPM: Resource = {"value": 80, "unit": "bpm"}


def delivered(received: list[Record]) -> list[tuple[Record, DeadLetter]]:
    """Letters as dlq.v1 holds them."""
    outputs = [o for o in ingest().handle(received) if o.topic == "dlq.v1"]
    return [
        (Record("dlq.v1", 0, i, 0, o.key, o.value), codec().decode(o.value or b"", DeadLetter))
        for i, o in enumerate(outputs)
    ]


def again(pair: tuple[Record, DeadLetter], offset: int = 900) -> Record:
    """The record of fhir.raw.v1 that a letter becomes."""
    stored, letter = pair
    payload = Vault([PAYLOAD_KEY]).open(letter.key_epoch, letter.payload, letter.sha256)
    made = handed_in(stored, letter, payload, 1_767_700_000_000_000)
    return Record(made.topic, 0, offset, 0, made.key, made.value, made.headers)


def site(tmp_path: Path) -> Ingest:
    """Ingest after the site has said what its unit means."""
    (tmp_path / "local_units.csv").write_text("system,unit,ucum,note\n,bpm,/min,\n")
    return Ingest(
        terminology=read_terminology(SCHEMAS / "terminology", tmp_path),
        pseudonym_key=PSEUDONYM_KEY,
        vault=vault,
        codec=codec(),
        partitions=PARTITIONS,
        on_receipts=lambda _: None,
    )


def told(outputs: Iterable[Output]) -> list[Vitals]:
    return [codec().decode(o.value or b"", Vitals) for o in outputs if o.topic == "vitals.v1"]


def test_a_letter_that_is_handed_in_again_says_what_it_would_have_said_at_first(
    tmp_path: Path,
) -> None:
    refused = record(observation(valueQuantity=BPM), offset=5)
    (pair,) = delivered([refused])
    mended = site(tmp_path)
    (first,) = told(mended.handle([refused]))
    (second,) = told(mended.handle([again(pair)]))
    carried = {"accepted_at": 0, "ingest_id": "", "raw_offset": 0}
    assert msgspec.structs.replace(first, **carried) == msgspec.structs.replace(second, **carried)


def test_a_letter_always_becomes_the_same_record_and_is_known_by_its_name() -> None:
    (pair,) = delivered([record(observation(status=None))])
    name = again_as(*pair)
    assert dict(again(pair).headers)["ingest_id"] == name.encode()
    assert again(pair).key == record(observation()).key
    assert fate(*pair, frozenset()) is Met.SENT
    assert fate(*pair, frozenset({name})) is Met.KNOWN


def test_letters_are_handed_in_as_their_messages_stood() -> None:
    times = ["2026-01-05T08:00:40Z", "2026-01-05T08:00:30Z", "2026-01-05T08:00:30Z"]
    received = [
        record(bundle(observation(status=None), observation(code=None)), offset=i, received=time)
        for i, time in enumerate(times)
    ]
    found = sorted(delivered(received), key=lambda pair: order(*pair))
    assert [(x.offset, x.entry) for _, x in found] == [
        *((1, 0), (1, 1)),
        *((2, 0), (2, 1)),
        *((0, 0), (0, 1)),
    ]


def test_what_cannot_be_handed_in_is_told_apart() -> None:
    (clock,) = delivered([tick("soon")])
    (large,) = delivered([record(b"x" * (1 << 21))])
    (stored, letter) = delivered([record(observation(status=None))])[0]
    assert fate(*clock, frozenset()) is Met.TICK
    assert fate(*large, frozenset()) is Met.NOT_KEPT
    foreign = msgspec.structs.replace(letter, topic="vitals.v1")
    assert fate(stored, foreign, frozenset()) is Met.FOREIGN


def test_letters_are_chosen_by_reason_source_and_time() -> None:
    letter = letter_of(record(observation(status=None)))
    at = letter.received_at
    assert Wish().holds(letter)
    assert Wish(reason="FHIR_STATUS", source="west", since=at, until=at + 1).holds(letter)
    for other in (
        *(Wish(reason="RANGE"), Wish(source="east"), Wish(since=at + 1), Wish(until=at)),
    ):
        assert not other.holds(letter)
