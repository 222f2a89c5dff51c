"""Tallies of patient-hours: parts of any partitions put together in any order."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import Reason, Refusal
from services.core.tallies import (
    EMPTY,
    CohortTally,
    GroupTally,
    HourTally,
    PatientDays,
    decode,
    encode,
    merge,
    merged,
    without_bins,
)

COUNTS = st.integers(0, 1000)
WEIGHTS = st.integers(0, 1 << 20).map(float)  # whole numbers: sums do not depend on their order
COHORTS = st.builds(
    CohortTally,
    patients=COUNTS,
    new_patients=COUNTS,
    hours=COUNTS,
    feature_patients=st.lists(COUNTS, min_size=2, max_size=2),
    feature_hours=st.lists(COUNTS, min_size=2, max_size=2),
    weights=st.tuples(
        st.lists(WEIGHTS, min_size=3, max_size=3), st.lists(WEIGHTS, min_size=2, max_size=2)
    ).map(list),
    mean_sums=st.lists(WEIGHTS, min_size=2, max_size=2),
)
GROUPS = st.builds(
    GroupTally, patients=COUNTS, alerted=COUNTS, not_scored=COUNTS, hours=COUNTS, above=COUNTS
)


def parts(partition: int) -> st.SearchStrategy[HourTally]:
    day = PatientDays(partition=partition, patients=9, alerted=bytes([partition, 0]))
    return st.builds(
        HourTally,
        patients=COUNTS,
        new_patients=COUNTS,
        hours=COUNTS,
        cohorts=st.dictionaries(st.sampled_from(["all", "unit=A", "unit=B"]), COHORTS),
        groups=st.dictionaries(
            st.sampled_from(["sex", "race"]), st.dictionaries(st.sampled_from("fm"), GROUPS)
        ),
        days=st.sampled_from([[], [day]]),
    )


@settings(deadline=None)
@given(parts(0), parts(1), parts(2))
def test_merging_is_associative_and_commutative_and_nobody_is_its_identity(
    one: HourTally, two: HourTally, three: HourTally
) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(one, two) == merge(two, one)
    assert merge(one, EMPTY) == merge(EMPTY, one) == merged([one])
    assert encode(merge(one, EMPTY)) == encode(one)


@settings(deadline=None)
@given(parts(0), parts(1))
def test_nothing_is_lost_or_made_up(one: HourTally, two: HourTally) -> None:
    both = merge(one, two)
    for name, cohort in both.cohorts.items():
        each = [t.cohorts[name] for t in (one, two) if name in t.cohorts]
        assert cohort.patients == sum(c.patients for c in each)
        assert cohort.weights[0][2] == sum(c.weights[0][2] for c in each)
        assert cohort.mean_sums[1] == sum(c.mean_sums[1] for c in each)
    assert set(both.cohorts) == set(one.cohorts) | set(two.cohorts)
    assert [day.partition for day in both.days] == sorted(d.partition for d in one.days + two.days)


@settings(deadline=None)
@given(parts(0))
def test_a_tally_comes_back_from_its_bytes_and_equal_ones_have_equal_bytes(one: HourTally) -> None:
    assert decode(encode(one)) == one
    turned = dict(reversed(one.cohorts.items()))
    assert encode(msgspec.structs.replace(one, cohorts=turned)) == encode(one)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"no msgpack",
        msgspec.msgpack.encode({"patients": "many"}),
        b"\x81\xa1n\x01",
    ],
)
def test_bytes_of_another_form_are_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        decode(body)
    assert refused.value.reason is Reason.AVRO_SYNTAX


@settings(deadline=None)
@given(parts(0), parts(1))
def test_parts_in_different_bins_refuse_to_merge_until_their_bins_are_left_out(
    one: HourTally, two: HourTally
) -> None:
    cohort = CohortTally(weights=[[1.0], [1.0, 2.0]], feature_patients=[1, 1])
    other = CohortTally(weights=[[], []], feature_patients=[1, 1])
    one = msgspec.structs.replace(one, cohorts={"all": cohort})
    two = msgspec.structs.replace(two, cohorts={"all": other})
    with pytest.raises(ValueError, match="zip"):
        merge(one, two)
    both = merge(without_bins(one), without_bins(two))
    assert both.cohorts["all"].feature_patients == [2, 2]
    assert both.cohorts["all"].weights == [[], []]
