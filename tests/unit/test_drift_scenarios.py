"""Ten wards, one struck by each seed: no alarm before the change, and the change is found.

The whole of monitoring without the wire: charts of a simulated ward become batches of four
partitions, patient-hours, tallies, measurements and signals, held against the baseline that is
shipped with the simulator.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from batches import DAY, HOUR, MINUTE, person
from builders import PARTITIONS, REPO, codec, terminology

from services.core import baseline
from services.core.cohorts import GROUP_DIMENSIONS, UNKNOWN
from services.core.events import (
    PredictionBatch,
    Role,
    Signal,
    SignalStep,
    State,
    packed,
    partition_of,
)
from services.core.folds.hours import HourFold
from services.core.judge.hours import DAYS, HourJudge
from services.core.vitals import VARIABLE_INDEX, VITALS
from services.monitoring.counting import CountTask
from services.monitoring.detectors import adwin
from services.monitoring.judging import JudgeTask
from services.runtime.envelope import SIGNALS
from services.runtime.ports import Record
from services.simulator.messages import START
from services.simulator.scenario import Strike, load_scenario
from services.simulator.unchanged import joined
from services.simulator.ward import Ward

QUIET_DAYS = 4
FIRST_DAY = int(START.timestamp()) * 1_000_000


class Struck(NamedTuple):
    """What a scenario must be found by, and in a ward of how many beds.

    Found by alarm in one of the first two windows, of ten seeds each: three scenarios in all ten
    at 40 beds; pressure-low in 3, 8 and 10 at 40, 100 and 150; fahrenheit-mislabeled, of which
    ingest leaves a fifth of the temperatures missing, in 7 and 9 at 100 and 150.
    """

    beds: int
    features: frozenset[str]


SCENARIOS = {
    "fahrenheit-mislabeled": Struck(150, frozenset({"Temp.presence"})),
    "nights-understaffed": Struck(40, frozenset(f"{name}.presence" for name in VITALS)),
    "pressure-low": Struck(150, frozenset({"MAP"})),
    "respiration-uncharted": Struck(40, frozenset({"Resp.presence"})),
    "thermometers-high": Struck(40, frozenset({"Temp"})),
}


class Hours(NamedTuple):
    """Patient-hours of a ward, one a row, by time."""

    who: np.ndarray
    at: np.ndarray
    values: np.ndarray
    unit: np.ndarray
    units: list[str]


def chart(seed: int, beds: int, hours: int, *, strike: Strike) -> Hours:
    ward = Ward(np.random.default_rng(seed), START, beds=beds, strike=strike)
    stays = [(stay, planned) for stay, _, planned in ward.stays(hours)]
    given = joined(stays, terminology())
    units, unit = np.unique(given.units, return_inverse=True)
    kept = np.flatnonzero(given.hour * HOUR < FIRST_DAY + hours * HOUR)
    rows = kept[np.argsort(given.hour[kept], kind="stable")]
    who = given.patient[rows]
    at = given.hour[rows] * HOUR + 5 * MINUTE
    return Hours(who, at, given.values[rows], unit[who], units.tolist())


def batch_of(hours: Hours, rows: np.ndarray, *, partition: int, watermark: int) -> PredictionBatch:
    """Scored observations, none above its threshold; each has a laboratory value, too."""
    many = len(rows)
    values = np.column_stack([hours.values[rows], np.ones(many)])
    present = ~np.isnan(values)
    bits = np.array([1 << v for v in (*range(len(VITALS)), VARIABLE_INDEX["Lactate"])], np.uint64)
    unknown = len(hours.units)
    cohorts = np.full((many, len(GROUP_DIMENSIONS)), unknown)
    cohorts[:, GROUP_DIMENSIONS.index("unit")] = hours.unit[rows]
    times = packed(hours.at[rows], "<i8")
    return PredictionBatch(
        vitals_topic_id="0" * 32,
        partition=partition,
        model_name="none",
        model_version="0",
        model_digest="",
        policy_version="none",
        role=Role.SHOWN,
        watermark=watermark,
        entries=many,
        offsets=packed(range(many), "<i8"),
        kinds=bytes(many),
        dispositions=bytes(many),
        causes=bytes(many),
        pseudonyms=b"".join(person(who) for who in hours.who[rows].tolist()),
        encounters=bytes(16 * many),
        measured_at=times,
        received_at=times,
        accepted_at=times,
        as_of=times,
        bitmaps=packed((present * bits).sum(axis=1, dtype=np.uint64), "<u8"),
        values=packed(values[present], "<f8"),
        scores=packed(np.full(many, 0.1), "<f4"),
        thresholds=packed(np.full(many, 0.5), "<f4"),
        decisions=bytes(many),
        cohort_dimensions=list(GROUP_DIMENSIONS),
        cohort_labels=[*hours.units, UNKNOWN],
        cohorts=packed(cohorts, "<u2"),
        feature_count=0,
        features=b"",
    )


def signals(hours: Hours, days: int) -> Iterator[Signal]:
    """Hand the ward's hours to monitoring, six hours of event time a batch."""
    site = baseline.decode((REPO / "services/simulator/baselines/ward.json").read_bytes())
    counting = [
        CountTask(HourFold(partition, lambda _: site), PredictionBatch, codec())
        for partition in range(PARTITIONS)
    ]
    judging = JudgeTask([HourJudge(lambda _: site, adwin)], PARTITIONS, codec())
    home = np.array([partition_of(person(who), PARTITIONS) for who in hours.who.tolist()])
    for offset, now in enumerate(range(FIRST_DAY, FIRST_DAY + days * DAY + 1, 6 * HOUR)):
        recent = (hours.at >= now - 6 * HOUR) & (hours.at < now)
        for partition, task in enumerate(counting):
            rows = np.flatnonzero(recent & (home == partition))
            batch = batch_of(hours, rows, partition=partition, watermark=now)
            for tally in task.handle([record(codec().encode(batch), partition, offset)]):
                for made in judging.handle([record(tally.value, 0, offset)]):
                    if made.topic == SIGNALS:
                        yield codec().decode(made.value or b"", Signal)


def record(value: bytes | None, partition: int, offset: int) -> Record:
    return Record("between", partition, offset, 0, None, value)


class Told(NamedTuple):
    scenario: str
    before: list[Signal]
    found: list[Signal]


def told(seed: int) -> Told:
    """Strike the seed's ward after QUIET_DAYS, and look at the two windows that follow."""
    name, struck = sorted(SCENARIOS.items())[seed % len(SCENARIOS)]
    strike = Strike(load_scenario(name), QUIET_DAYS * 24.0)
    days = QUIET_DAYS + 2
    alarms = [
        signal
        for signal in signals(chart(seed, struck.beds, days * 24, strike=strike), days)
        if signal.severity is State.ALARM and signal.step is not SignalStep.CLOSED
    ]
    at = FIRST_DAY + QUIET_DAYS * DAY
    before = [signal for signal in alarms if signal.start < at]
    found = [s for s in alarms if s.start >= at and s.feature in struck.features]
    return Told(name, before, found)


@pytest.mark.slow
def test_over_ten_seeds_nothing_alarms_before_the_change_and_the_change_is_found() -> None:
    stories = [told(seed) for seed in range(10)]
    assert sum(not story.before for story in stories) >= 9
    missed = [story.scenario for story in stories if not story.found]
    assert len(missed) <= 1, missed


def patient_days(seed: int, beds: int, days: int, *, rate: float) -> list[np.ndarray]:
    """Days of a ward in which some patients are alerted day after day and most hardly ever.

    Each patient's own rate is drawn from a Beta distribution about the ward's, of the variance
    that a single earlier day would leave: days of one patient are anything but independent.
    """
    chance = np.random.default_rng(seed)
    found: list[list[bool]] = [[] for _ in range(days)]
    for _ in range(beds):
        at = -chance.uniform(0, 3)
        while at < days:
            length = float(np.clip(chance.lognormal(np.log(2.8), 0.5), 1, 8))
            own = chance.beta(rate, 1 - rate)
            for day in range(max(0, int(at)), min(days, int(at + length) + 1)):
                found[day].append(bool(chance.random() < own))
            at += length + 0.1
    return [np.array(day) for day in found]


def found_on(days: list[np.ndarray]) -> list[int]:
    """On which days the detector finds a change, looking back as the judge does."""
    return [n for n in range(len(days)) if adwin(days[max(0, n - DAYS + 1) : n + 1]).changed]


def test_without_a_change_the_detector_of_patient_days_is_wrong_once_in_a_year_at_most() -> None:
    """Docs state more (docs/drift.md, alarm burden): 800 days at 100 beds, over 2,400."""
    wards = [patient_days(seed, 40, 120, rate=0.15) for seed in range(5)]
    assert sum(len(found_on(days)) for days in wards) <= 5 * 120 / 365


def test_a_threefold_alert_rate_is_found_within_two_days() -> None:
    for seed in range(5):
        calm, busy = (patient_days(seed, 100, 10, rate=rate) for rate in (0.15, 0.45))
        assert [day for day in found_on([*calm, *busy]) if 10 <= day < 12]
