"""Whether a score means the same in every group: found where it does not, and not before."""

from collections.abc import Iterable, Sequence
from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from labelled_hours import BEGIN, hour_label, labelled

from services.core.events import Labelled, Measurement, State
from services.core.judge.calibration import differences
from services.core.judge.groups import COLUMNS, Cohort
from services.core.judge.labels import measured
from services.core.label_tallies import SCORE_UNIT
from services.core.stats.intervals import poisson_weights
from services.core.windows import DAY, HOUR, Window

DAY_ONE = Window(BEGIN, BEGIN + DAY)
HOURS = 10


def stays(sex: str, count: int, *, positive: int, score: float, first: int = 0) -> list[Labelled]:
    """Patients of one group, of whom the first so many are positive in half of their hours."""
    return [
        labelled(
            hour_label(label=int(number < positive and hour % 2), score=score),
            patient=(sex, first + number),
            hour=BEGIN + hour * HOUR,
            cohort_dimensions=["sex"],
            cohorts=[sex],
        )
        for number in range(count)
        for hour in range(HOURS)
    ]


def compared(told: Iterable[Labelled], dimension: str = "sex") -> list[Measurement]:
    return [
        each
        for each in measured(told, DAY_ONE)
        if each.metric == "calibration_difference" and each.cohort.startswith(dimension)
    ]


def test_a_group_is_held_against_the_largest_with_an_interval_by_patient() -> None:
    groups = {
        "male": stays("male", 160, positive=40, score=0.125),
        "female": stays("female", 130, positive=30, score=0.125),
        "other": stays("other", 110, positive=25, score=0.125),
    }
    found = {each.cohort: each for each in compared([e for g in groups.values() for e in g])}
    assert set(found) == {"sex=female", "sex=other"}
    drawn = {}
    for sex, told in groups.items():
        patients = sorted({each.pseudonym for each in told})
        weights = poisson_weights(patients).astype(float)
        label = {each.pseudonym: 0 for each in told}
        for each in told:
            label[each.pseudonym] += each.now.label if each.now else 0
        observed = np.array([label[each] for each in patients]) @ weights
        drawn[sex] = observed / (0.125 * HOURS * weights.sum(axis=0))
    for sex, positive, count in (("female", 30, 130), ("other", 25, 110)):
        one = found[f"sex={sex}"]
        value = (positive * 5 / count - 40 * 5 / 160) / (0.125 * HOURS)
        reach = NormalDist().inv_cdf(1 - 0.05 / 2 / 2) * (drawn[sex] - drawn["male"]).std()
        assert one.value == pytest.approx(value)
        assert (one.low, one.high) == pytest.approx((value - reach, value + reach))
        assert (one.patients, one.positives, one.hours) == (count, positive, count * HOURS)
        assert (one.reference, one.state) == ("sex=male", State.INSUFFICIENT)
        assert (one.why, one.threshold) == ("wide_interval", 0.05)


def test_a_score_that_says_half_as_much_in_one_group_is_an_alarm() -> None:
    told = stays("male", 600, positive=150, score=0.125)
    same = compared([*told, *stays("female", 500, positive=125, score=0.125)])
    half = compared([*told, *stays("female", 500, positive=125, score=0.0625)])
    assert [each.state for each in same] == [State.INSUFFICIENT]
    assert [(each.state, each.direction) for each in half] == [(State.ALARM, "higher")]


def test_groups_that_are_alike_beyond_doubt_are_ok() -> None:
    told = [
        each for sex in ("male", "female") for each in stays(sex, 300, positive=300, score=0.5)
    ]
    assert [(each.state, each.value) for each in compared(told)] == [(State.OK, 0.0)]


@pytest.mark.parametrize(
    ("count", "positive", "final", "why"),
    [
        (100, 20, True, "wide_interval"),
        (99, 20, True, "few_patients"),
        (100, 19, True, "few_positives"),
        (100, 20, False, "immature"),
    ],
)
def test_a_difference_takes_what_calibration_takes_and_positive_patients(
    count: int, positive: int, *, final: bool, why: str
) -> None:
    told = stays("male", 200, positive=50, score=0.125)
    group = stays("female", count, positive=positive, score=0.125)
    if not final:
        extra = [
            msgspec.structs.replace(each, now=hour_label(final=False), hour=each.hour + 12 * HOUR)
            for each in group
        ]
        group += extra
    [one] = compared([*told, *group])
    assert (one.state, one.why) == (State.INSUFFICIENT, why)
    assert (one.low is None) == (why != "wide_interval")


def test_the_group_it_is_held_against_must_have_its_evidence_too() -> None:
    largest = stays("male", 200, positive=19, score=0.125)
    [one] = compared([*largest, *stays("female", 100, positive=20, score=0.125)])
    assert (one.state, one.why) == (State.INSUFFICIENT, "few_positives")


def drawn_groups(
    random: np.random.Generator, sizes: Sequence[int], *, truth: Sequence[float]
) -> list[Cohort]:
    """Groups whose patients have up to six positive hours as often as announced, times the truth.

    A tenth of the patients is positive, more or less of them by their own risk.
    """
    groups = []
    for number, (size, times) in enumerate(zip(sizes, truth, strict=True)):
        risk = np.minimum(0.1 * random.gamma(2, 0.5, size), 0.5)
        positive = np.where(random.random(size) < risk * times, random.integers(1, 7, size), 0)
        table = np.zeros((size, len(COLUMNS)))
        table[:, COLUMNS.index("hours")] = 24
        table[:, COLUMNS.index("false_negative")] = positive
        table[:, COLUMNS.index("true_negative")] = 24 - positive
        table[:, COLUMNS.index("expected")] = np.round(risk * 3.5 * SCORE_UNIT)
        drawn = np.zeros((200, len(COLUMNS)))
        used = table.any(axis=0)
        drawn[:, used] = random.poisson(1, (200, size)).astype(float) @ table[:, used]
        sums = dict(zip(COLUMNS, table.sum(axis=0).tolist(), strict=True))
        groups.append(Cohort(f"race={number}", sums, table, drawn, []))
    return groups


def alarmed(windows: int, sizes: Sequence[int], truth: Sequence[float]) -> int:
    """In how many windows some group is an alarm."""
    random = np.random.default_rng(5)
    drawn = (drawn_groups(random, sizes, truth=truth) for _ in range(windows))
    return sum(
        any(each.state is State.ALARM for each in differences(groups, DAY_ONE)) for groups in drawn
    )


def test_unchanged_groups_are_an_alarm_in_5_windows_of_100_at_most() -> None:
    assert alarmed(200, (400, 300, 300, 250), (1, 1, 1, 1)) <= 10


def test_a_group_of_600_with_twice_the_announced_is_an_alarm_in_9_windows_of_10() -> None:
    assert alarmed(40, (900, 600), (1, 2)) >= 36


def test_a_group_that_may_not_be_shown_is_compared_with_nobody() -> None:
    told = stays("male", 200, positive=50, score=0.125)
    few = stays("female", 100, positive=8, score=0.125)
    assert compared([*told, *few]) == []
    assert compared(told) == []
