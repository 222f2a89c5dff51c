"""The short way off the wire tells what the codec tells, and refuses what it refuses."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wards import CODEC, START, admitted, identified, measured, person, retracted, tick

from services.core.errors import Refusal, Stop
from services.core.events import Vitals
from services.core.vitals import VARIABLE_INDEX, VARIABLES
from services.runtime.codec import HEADER_BYTES
from services.scoring.patients import wire
from services.scoring.patients.wire import Wire

LEFT_OUT = {
    "source": "",
    "ingest_id": "",
    "raw_partition": 0,
    "raw_offset": 0,
    "entries": b"",
    "codes": [],
    "units": [],
    "devices": [],
    "terminology": "",
}
texts = st.text(max_size=5)
moments = st.one_of(st.integers(START, START + 10**12), st.integers(-(1 << 63), (1 << 63) - 1))


@st.composite
def events(draw: st.DrawFn) -> Vitals:
    names = draw(st.lists(st.sampled_from([*VARIABLES, "x"]), max_size=6))
    at = draw(moments)
    known = {name: draw(st.floats()) for name in names}
    event = measured("p", at, known, flags=draw(st.integers(0, 255)))
    made = st.sampled_from(
        [
            event,
            retracted("p", at, names),
            tick(at),
            identified("p", at, age=50.0),
            admitted("p", at, "e1"),
        ]
    )
    odd = {
        "source": texts,
        "ingest_id": texts,
        "terminology": texts,
        "codes": st.lists(texts, max_size=3),
        "units": st.lists(texts, max_size=130),
        "pseudonym": st.sampled_from([b"", b"x", person("p"), bytes(17)]),
        "encounter": st.sampled_from([b"", b"x", person("e")]),
        "received_at": moments,
        "raw_offset": st.integers(0, 1 << 40),
        "ids": st.binary(max_size=20),
        "versions": st.binary(max_size=20),
        "flags": st.binary(max_size=5),
    }
    changed = draw(st.lists(st.sampled_from(sorted(odd)), max_size=2, unique=True))
    return msgspec.structs.replace(draw(made), **{name: draw(odd[name]) for name in changed})


def by_the_codec(record: bytes) -> Vitals | str:
    try:
        event = wire._sound(CODEC.decode(record, Vitals))
    except Refusal as refusal:
        return str((refusal.reason, refusal.place))
    except Stop:
        return "stop"
    return event


def by_the_short_way(record: bytes) -> Vitals | str:
    try:
        return Wire(CODEC).event(record)
    except Refusal as refusal:
        return str((refusal.reason, refusal.place))
    except Stop:
        return "stop"


def assert_same(record: bytes) -> None:
    long, short = by_the_codec(record), by_the_short_way(record)
    if isinstance(long, Vitals) and short != long:
        long = msgspec.structs.replace(long, **LEFT_OUT)
    # By their texts: NaN is not itself.
    assert repr(short) == repr(long)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(events())
def test_an_event_is_told_as_the_codec_tells_it(event: Vitals) -> None:
    assert_same(CODEC.encode(event))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_what_is_broken_is_refused_as_the_codec_refuses_it(data: st.DataObject) -> None:
    whole = bytearray(CODEC.encode(measured("p", START, {"HR": 80, "SBP": 120, "pH": 7.4})))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(HEADER_BYTES, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(whole), len(whole) - 1, data.draw(st.integers(0, 300))]))
    assert_same(bytes(whole[:end]) + data.draw(st.sampled_from([b"", b"\0", b"\x02a"])))


@pytest.mark.parametrize("cut", range(HEADER_BYTES, 200, 3))
def test_a_record_that_ends_early_is_refused(cut: int) -> None:
    whole = CODEC.encode(measured("p", START, {"HR": 80, "SBP": 120, "pH": 7.4}))
    if cut < len(whole):
        assert_same(whole[:cut])


def test_a_measurement_does_not_take_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    record = CODEC.encode(measured("p", START, {"HR": 80}, encounter=person("e")))
    reader = Wire(CODEC)
    monkeypatch.setattr(reader, "_codec", None)
    assert reader.event(record).variables == bytes([VARIABLE_INDEX["HR"]])
