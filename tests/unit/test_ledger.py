"""The chain: every byte of a record counts, and every record holds all before it."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.ledger import (
    GENESIS,
    Fact,
    Withheld,
    chain_id,
    leaf,
    link,
    rec,
    withheld,
)
from services.audit.proof import ChainProof, Row
from services.audit.recorder import Recorder, Source, trace_id
from services.core.errors import Retry
from services.runtime.ports import Record

TOPIC_ID = "00c7a1f4000040008000000000000000"
CHAIN = chain_id("cluster", TOPIC_ID, 3)
OPTIONAL = st.none() | st.binary(max_size=9)
NUMBER = st.integers(-(2**63), 2**63 - 1)
FACTS = st.builds(
    Fact,
    offset=NUMBER,
    timestamp_type=st.integers(0, 2),
    timestamp_ms=NUMBER,
    key=OPTIONAL,
    headers=st.lists(st.tuples(st.text(max_size=4), OPTIONAL), max_size=3).map(tuple),
    value=OPTIONAL | st.builds(Withheld, NUMBER, st.binary(min_size=32, max_size=32)),
)


def test_a_record_is_written_as_the_page_on_the_ledger_says() -> None:
    headers = (("source", b"west"), ("empty", None))
    fact = Fact(7, 1, 1_772_352_000_000, b"key", headers, b"value")
    expected = (
        b"\x00\x00\x00\x07cluster"
        b"\x00\x00\x00\x10"
        + bytes.fromhex(TOPIC_ID)
        + b"\x00\x00\x00\x08"
        + struct.pack(">q", 3)
        + b"\x00\x00\x00\x08"
        + struct.pack(">q", 7)
        + b"\x00\x00\x00\x08"
        + struct.pack(">q", 1)
        + b"\x00\x00\x00\x08"
        + struct.pack(">q", 1_772_352_000_000)
        + b"\x00\x00\x00\x03key"
        + b"\x00\x00\x00\x08"
        + struct.pack(">q", 2)
        + b"\x00\x00\x00\x06source\x00\x00\x00\x04west"
        + b"\x00\x00\x00\x05empty\xff\xff\xff\xff"
        + b"\x00\x00\x00\x05value"
    )
    assert rec(CHAIN, fact) == expected


def test_of_the_phi_zone_length_and_hash_stand_for_the_value() -> None:
    fact = Fact(0, 1, 0, None, (), withheld(b"a name"))
    tail = b"\x00\x00\x00\x08" + struct.pack(">q", 6) + b"\x00\x00\x00\x20"
    assert rec(CHAIN, fact).endswith(tail + hashlib.sha256(b"a name").digest())
    assert withheld(None) == Withheld(-1, hashlib.sha256(b"").digest())
    assert withheld(b"") == Withheld(0, hashlib.sha256(b"").digest())


@given(FACTS, FACTS)
def test_two_records_that_differ_are_written_differently(one: Fact, other: Fact) -> None:
    assert (rec(CHAIN, one) == rec(CHAIN, other)) == (one == other)


@pytest.mark.parametrize(
    "other",
    [
        chain_id("cluste", TOPIC_ID, 3),
        chain_id("cluster", TOPIC_ID, 4),
        chain_id("cluster", "0" * 32, 3),
    ],
)
def test_the_same_record_of_another_chain_has_another_leaf(other: bytes) -> None:
    fact = Fact(0, 1, 0, None, (), b"value")
    assert leaf(rec(CHAIN, fact)) != leaf(rec(other, fact))


def test_leaf_and_link_are_told_apart_by_their_first_byte() -> None:
    assert leaf(b"x") == hashlib.sha256(b"\x00x").digest()
    assert link(GENESIS, leaf(b"x")) == hashlib.sha256(b"\x02" + bytes(32) + leaf(b"x")).digest()


def test_the_trace_id_is_that_of_traceparent_and_nothing_else() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace_id((("traceparent", f"00-{trace}-00f067aa0ba902b7-01".encode()),)) == trace
    assert trace_id((("traceparent", b"\xff"), ("traceparent", None))) == ""
    assert trace_id(()) == ""


SOURCE = Source(topic="t", topic_id=TOPIC_ID, phi=False, event=None)
PHI = Source(topic="p", topic_id="1" * 32, phi=True, event=None)


def _recorder() -> Recorder:
    def decode(_: bytes, __: object) -> object:
        raise AssertionError

    return Recorder("cluster", {"t": SOURCE, "p": PHI}, heads={}, held={}, decode=decode)  # type: ignore[arg-type]  # never called


def _rows(recorder: Recorder) -> list[Row]:
    columns = recorder.take().ledger
    cells = zip(*columns.values(), strict=True)
    return [Row(**dict(zip(columns, row, strict=True))) for row in cells]


@given(st.lists(st.integers(0, 1), min_size=1, max_size=30), st.integers(1, 10))
def test_chains_are_dense_and_sound_however_records_are_cut_into_blocks(
    partitions: list[int], block: int
) -> None:
    records = [
        Record(topic, p, 3 * at, at, b"k", None if at % 7 == 6 else b"value %d" % at)
        for at, p in enumerate(partitions)
        for topic in ("t", "p")
    ]
    recorder = _recorder()
    proofs: dict[tuple[str, int], ChainProof] = {}
    found: dict[tuple[str, int], list[int]] = {}
    for start in range(0, len(records), block):
        recorder.add(records[start : start + block])
        for row in _rows(recorder):
            place = (row.topic, row.partition)
            source = SOURCE if row.topic == "t" else PHI
            proof = proofs.setdefault(place, ChainProof(source, row.partition))
            assert proof.check(row) is None
            found.setdefault(place, []).append(row.sequence)
    assert all(found[place] == list(range(len(found[place]))) for place in found)


def test_a_record_of_the_phi_zone_is_kept_without_key_and_value() -> None:
    recorder = _recorder()
    recorder.add([Record("p", 0, 0, 0, b"key", b"a name")])
    row = _rows(recorder)[0]
    assert (row.key, row.value, row.length) == (None, None, 6)
    assert row.sha256 == hashlib.sha256(b"a name").digest()


def test_a_record_that_was_given_before_ends_the_process() -> None:
    recorder = _recorder()
    recorder.add([Record("t", 0, 5, 0, None, b"x")])
    with pytest.raises(Retry, match="went back"):
        recorder.add([Record("t", 0, 5, 0, None, b"x")])
