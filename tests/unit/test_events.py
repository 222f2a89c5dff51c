from collections import Counter

import pytest
from aiokafka import partitioner as aiokafka  # type: ignore[import-untyped]  # it has no types
from hypothesis import given
from hypothesis import strategies as st

from services.core.events import murmur2, partition_of, prediction_id

# What org.apache.kafka.common.utils.Utils.murmur2 gives, signed, as its own test states.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA.items(), ids=lambda value: str(value)[:12])
def test_a_key_hashes_as_in_java(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % (1 << 32)


@given(st.binary(max_size=70))
def test_a_key_hashes_as_in_aiokafka(key: bytes) -> None:
    assert murmur2(key) == aiokafka.murmur2(key) % (1 << 32)


@given(st.binary(min_size=16, max_size=16), st.integers(1, 64))
def test_a_patient_has_the_partition_that_faust_would_choose(key: bytes, number: int) -> None:
    every = list(range(number))
    assert partition_of(key, number) == aiokafka.DefaultPartitioner()(key, every, every)


def test_patients_spread_over_all_partitions() -> None:
    pseudonyms = (number.to_bytes(16, "big") for number in range(4000))
    shares = Counter(partition_of(pseudonym, 4) for pseudonym in pseudonyms)
    assert set(shares) == {0, 1, 2, 3}
    assert min(shares.values()) > 850


def test_two_models_never_share_a_prediction_id() -> None:
    topic = "00c7a1f4" + "0" * 24
    one = prediction_id(topic, 0, 1, digest="a" * 64)
    assert one != prediction_id(topic, 0, 1, digest="b" * 64)
    assert one != prediction_id(topic, 1, 1, digest="a" * 64)
