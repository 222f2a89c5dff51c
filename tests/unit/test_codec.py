import io
import json
import math
import struct
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import Reason, Refusal, Stop
from services.core.events import Alert, Identity, Kind, Patient, Receipt, Step, Vitals
from services.local.home import REPO
from services.runtime.codec import EVENTS, HEADER_BYTES, MAGIC, MAX_BYTES, Codec, fingerprint

SCHEMAS = REPO / "schemas"
CODEC = Codec(SCHEMAS)
RAW = {p.stem: json.loads(p.read_text()) for p in sorted((SCHEMAS / "events").glob("*.avsc"))}
HISTORY = sorted((SCHEMAS / "history").glob("*.avsc"))
VITALS = Vitals(
    kind=Kind.OBSERVATION,
    source="west",
    pseudonym=bytes(16),
    measured_at=1,
    received_at=2,
    accepted_at=3,
    ingest_id="one",
    raw_partition=0,
    raw_offset=7,
    codes=["8867-4"],
)


def avro_values(schema: Any) -> st.SearchStrategy[Any]:
    """Every value that a schema allows, infinities and NaN left out."""
    if isinstance(schema, list):
        return st.one_of([avro_values(part) for part in schema])
    if isinstance(schema, str):
        return PRIMITIVES[schema]
    if schema["type"] == "record":
        return st.fixed_dictionaries({f["name"]: avro_values(f["type"]) for f in schema["fields"]})
    if schema["type"] == "enum":
        return st.sampled_from(schema["symbols"])
    return st.lists(avro_values(schema["items"]), max_size=5)


PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "string": st.text(max_size=20),
    "bytes": st.binary(max_size=40),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
}


@cache
def values_of(path: Path) -> st.SearchStrategy[Any]:
    """What a file's schema allows; made once, as that takes longer than to draw a value."""
    return avro_values(json.loads(path.read_text()))


def values_of_event(name: str) -> st.SearchStrategy[Any]:
    return values_of(SCHEMAS / "events" / f"{name}.avsc")


@pytest.mark.parametrize("name", RAW)
@given(data=st.data())
def test_every_event_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    event = msgspec.convert(data.draw(values_of_event(name)), EVENTS[name], strict=False)
    assert CODEC.decode(CODEC.encode(event), EVENTS[name]) == event


def test_a_message_begins_with_the_fingerprint_of_its_schema() -> None:
    wire = CODEC.encode(VITALS)
    assert wire[:2] == MAGIC == b"\xc3\x01"
    assert wire[2:HEADER_BYTES] == fingerprint(RAW["Vitals"])


def test_a_fingerprint_is_little_endian_as_the_specification_says() -> None:
    # The published fingerprint of "int" is 7275d51a3f395c8f.
    assert fingerprint("int").hex() == "8f5c393f1ad57572"  # type: ignore[arg-type]  # a primitive


@pytest.mark.parametrize("name", RAW)
@given(data=st.data())
def test_whatever_happens_to_a_message_it_is_read_or_refused(
    name: str, data: st.DataObject
) -> None:
    value = data.draw(values_of_event(name))
    wire = bytearray(CODEC.encode(msgspec.convert(value, EVENTS[name], strict=False)))
    body = st.integers(HEADER_BYTES, len(wire))
    start, end = sorted((data.draw(body), data.draw(body)))
    wire[start:end] = data.draw(st.binary(max_size=12))
    found = read(bytes(wire), EVENTS[name])
    assert isinstance(found, EVENTS[name]) or found in {Reason.AVRO_SYNTAX, Reason.NUM_NONFINITE}


def read(wire: bytes, event: type[msgspec.Struct]) -> msgspec.Struct | Reason:
    try:
        return CODEC.decode(wire, event)
    except Refusal as refusal:
        return refusal.reason


@pytest.mark.parametrize("missing", range(1, 12))
def test_a_truncated_message_is_refused(missing: int) -> None:
    with pytest.raises(Refusal) as refused:
        CODEC.decode(CODEC.encode(VITALS)[:-missing], Vitals)
    assert refused.value.reason == Reason.AVRO_SYNTAX


def test_trailing_bytes_are_refused_where_they_begin() -> None:
    wire = CODEC.encode(VITALS)
    with pytest.raises(Refusal) as refused:
        CODEC.decode(wire + b"\x00", Vitals)
    assert refused.value.place == f"byte {len(wire)}"


@pytest.mark.parametrize(
    "data", [b"", b"\xc3", b"\xc3\x01", b"\x00\x00\x00", b"{}", b"\xc3\x02" + bytes(20)]
)
def test_other_framing_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        CODEC.decode(data, Vitals)
    assert refused.value.reason == Reason.SCHEMA_UNKNOWN


def test_an_unknown_fingerprint_stops_the_reader() -> None:
    with pytest.raises(Stop):
        CODEC.decode(MAGIC + bytes(8) + b"body", Vitals)


def test_another_event_than_the_topic_promises_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        CODEC.decode(CODEC.encode(VITALS), Receipt)
    assert refused.value.reason == Reason.SCHEMA_UNKNOWN


def test_a_message_longer_than_any_topic_takes_is_refused_unread() -> None:
    with pytest.raises(Refusal) as refused:
        CODEC.decode(CODEC.encode(VITALS) + bytes(MAX_BYTES), Vitals)
    assert refused.value.reason == Reason.TOO_LARGE


ALERT = Alert(
    alert_id="a",
    step=Step.RAISED,
    prediction_id="a",
    pseudonym=bytes(16),
    encounter=bytes(16),
    unit="micu",
    measured_at=1,
    received_at=2,
    accepted_at=3,
    valid_until=4,
    score=0.5,
    threshold=0.25,
    cause="threshold",
    policy_version="1",
    model_digest="d",
)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused_by_name(number: float) -> None:
    with pytest.raises(Refusal) as refused:
        CODEC.decode(CODEC.encode(msgspec.structs.replace(ALERT, score=number)), Alert)
    assert (refused.value.reason, refused.value.place) == (Reason.NUM_NONFINITE, "score")


def test_a_nested_number_that_is_none_is_refused_too() -> None:
    patient = msgspec.convert(
        {"pseudonym": b"", "updated_at": 1, "demographics": {"age": math.nan}}, Patient
    )
    with pytest.raises(Refusal) as refused:
        CODEC.decode(CODEC.encode(patient), Patient)
    assert refused.value.place == "demographics"


def test_a_packed_column_may_hold_nan_for_an_absent_value() -> None:
    absent = msgspec.structs.replace(VITALS, values=struct.pack("<d", math.nan))
    assert CODEC.decode(CODEC.encode(absent), Vitals) == absent


def zigzag(number: int) -> bytes:
    left, out = (number << 1 ^ number >> 63) & (1 << 64) - 1, b""
    while left > 0x7F:
        out, left = out + bytes([left & 0x7F | 0x80]), left >> 7
    return out + bytes([left])


HOSTILE = [2**28, 2**40, 2**62, 2**63 - 1, -1, -(2**28), -(2**40), -(2**63)]
BEFORE_ENTRIES = zigzag(0) * 8


@pytest.mark.parametrize("length", HOSTILE)
@pytest.mark.parametrize(
    ("event", "before"),
    [
        pytest.param(Identity, b"", id="bytes"),
        pytest.param(Receipt, b"", id="string"),
        pytest.param(Receipt, BEFORE_ENTRIES, id="array"),
    ],
)
def test_a_hostile_length_costs_no_memory(
    event: type[msgspec.Struct], before: bytes, length: int
) -> None:
    wire = MAGIC + fingerprint(RAW[event.__name__]) + before + zigzag(length) + b"\x02abc"
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refused:
            CODEC.decode(wire, event)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.reason == Reason.AVRO_SYNTAX
    assert peak < 1 << 20


def test_a_message_of_the_past_is_read_by_its_own_schema(tmp_path: Path) -> None:
    old = {**RAW["Identity"], "fields": RAW["Identity"]["fields"][:2]}
    for folder, schema in (("history", old), ("events", RAW["Patient"])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.avsc").write_text(json.dumps(schema))
    wire = MAGIC + fingerprint(old) + zigzag(2) + b"ab" + zigzag(5)
    assert Codec(tmp_path).decode_fields(wire) == (
        "Identity",
        {"pseudonym": b"ab", "key_epoch": 5},
    )


@pytest.mark.parametrize(
    "path", sorted((SCHEMAS / "history").glob("*.avsc")), ids=lambda p: p.stem
)
@given(data=st.data())
def test_every_schema_that_ever_landed_can_be_read(path: Path, data: st.DataObject) -> None:
    kind, head, schema = _landed(path)
    buffer = io.BytesIO(head)
    buffer.seek(len(head))
    fastavro.schemaless_writer(buffer, schema, data.draw(values_of(path)))
    assert isinstance(CODEC.decode(buffer.getvalue(), kind), kind)


@cache
def _landed(path: Path) -> tuple[type[msgspec.Struct], bytes, Any]:
    """The event of a schema, how its messages begin, and the schema as fastavro wants it."""
    schema = json.loads(path.read_text())
    head = MAGIC + fingerprint(schema)
    return EVENTS[schema["name"]], head, fastavro.parse_schema(schema)


def test_a_folder_without_schemas_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no schemas"):
        Codec(tmp_path)
