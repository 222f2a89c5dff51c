"""The judge of drift: patient-hours of a window against the baseline, feature by feature.

Two families are declared in advance: the features of everybody, and the features of all the units
that the baseline knows. Within each a p-value is corrected for all its members, so that a window
without drift is alarm in one of a hundred by either, however many units there are.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

import msgspec

from services.core.baseline import (
    EVERYBODY,
    VITAL_FEATURES,
    WATCHED_SHARE,
    Baseline,
    FeatureReference,
)
from services.core.events import Measurement, State
from services.core.judge.cells import hidden
from services.core.stats.drift import SMALLEST_K, Reading, Summary, compare, holm, psi
from services.core.stats.nulls import threshold
from services.core.tallies import CohortTally, HourTally
from services.core.windows import HOUR, Window

METRIC: Final = "drift"
UNIT: Final = "patient_hour"
WATCH_P: Final = 0.05
ALARM_P: Final = 0.01
NOT_TESTED: Final = 1.0
"""p of a feature that could not be tested: the family stays as large as it was declared."""

Watched = frozenset[tuple[str, str]]
"""Cohort and feature of what was watch or alarm by its own window."""


class Case(NamedTuple):
    """One feature of one cohort of one window."""

    cohort: str
    feature: str
    counted: CohortTally
    place: int  # of the feature in the tally's columns
    reference: FeatureReference | None
    least_hours: float = 0.0  # per patient, below which the window was not watched as a whole

    @property
    def watched(self) -> bool:
        """Whether the window was watched long enough to be held against windows of its length."""
        return self.counted.hours >= self.least_hours * self.counted.patients

    @property
    def patients(self) -> int:
        """With an hour of the feature."""
        return self.counted.feature_patients[self.place]

    @property
    def mean_sum(self) -> float:
        """Sum of the patients' means."""
        return self.counted.mean_sums[self.place]

    @property
    def summary(self) -> Summary:
        """Of the window, in the reference's bins; at least one patient."""
        weights = self.counted.weights[self.place]
        return Summary(weights, self.mean_sum / self.patients, self.patients)


class Trial(NamedTuple):
    """What a feature's window showed, and what that is worth in its family."""

    reading: Reading
    p: float  # corrected
    family: int  # so many tests share an error


def unfit(baseline: Baseline | None, window: Window, digests: AbstractSet[str]) -> str:
    """Name why a window cannot be held against a baseline; nothing: it can.

    Args:
        baseline: in force at the window's start.
        window: to be judged.
        digests: of the baselines in whose bins its parts were counted.
    """
    if baseline is None:
        return "no_baseline"
    if baseline.kind != "site":
        return "no_site_baseline"
    if baseline.window_h * HOUR != window.length:
        return "other_length"
    if not set(baseline.features) <= set(VITAL_FEATURES):
        return "other_features"
    return "" if digests <= {baseline.digest} else "other_baseline"


def unjudged(tally: HourTally, window: Window, why: str) -> list[Measurement]:
    """State that no feature can be judged, and why."""
    counted = tally.cohorts.get(EVERYBODY, CohortTally())
    patients = counted.feature_patients or [0] * len(VITAL_FEATURES)
    cases = [Case(EVERYBODY, f, counted, i, None) for i, f in enumerate(VITAL_FEATURES)]
    return [
        _suppressed(_stated(case, window, ""))
        if hidden({EVERYBODY: patients[case.place]})
        else msgspec.structs.replace(_stated(case, window, ""), why=why)
        for case in cases
    ]


def drift(
    tally: HourTally, baseline: Baseline, window: Window, before: Watched
) -> tuple[list[Measurement], Watched]:
    """Judge every feature of every cohort.

    Args:
        tally: of the whole window, in the bins of the baseline.
        baseline: of the site.
        window: that it is of.
        before: what was watched in the window before.

    Returns:
        The measurements, and what is watched in this window by its own p-value.
    """
    cohorts = [list(_cases(name, tally, baseline)) for name in sorted(tally.cohorts)]
    units = max(1, len(baseline.cohorts.keys() - {EVERYBODY}))
    trials = {
        case[:2]: trial
        for cases in cohorts
        for case, trial in _trials(cases, 1 if cases[0].cohort == EVERYBODY else units)
    }
    veils = {
        feature: hidden({cases[place].cohort: cases[place].patients for cases in cohorts})
        for place, feature in enumerate(baseline.features)
    }
    found = []
    for case in (case for cases in cohorts for case in cases):
        stated = _stated(case, window, baseline.digest)
        trial = trials.get((case.cohort, case.feature))
        if case.cohort in veils[case.feature]:
            found.append(_suppressed(stated))
        elif trial is None:
            found.append(_untried(stated, case))
        else:
            twice = (case.cohort, case.feature) in before and _half_new(case.counted)
            found.append(_tried(stated, case, trial, twice=twice))
    return found, frozenset(key for key, trial in trials.items() if trial.p <= WATCH_P)


def _cases(cohort: str, tally: HourTally, baseline: Baseline) -> Iterator[Case]:
    known = baseline.cohorts.get(cohort)
    references = known.features if known else {}
    least = WATCHED_SHARE * known.window_hours if known else 0.0
    for feature in baseline.features:
        place = VITAL_FEATURES.index(feature)
        yield Case(cohort, feature, tally.cohorts[cohort], place, references.get(feature), least)


def _trials(cases: list[Case], cohorts: int) -> Iterator[tuple[Case, Trial]]:
    """Test what can be tested of one cohort.

    Its features are corrected together (Holm), and then for the cohorts of its kind (Bonferroni).
    """
    family = [case for case in cases if case.reference is not None]
    readings = [_reading(case) for case in family]
    corrected = holm([reading.p if reading else NOT_TESTED for reading in readings])
    for case, reading, p in zip(family, readings, corrected, strict=True):
        if reading is not None:
            yield case, Trial(reading, min(1.0, cohorts * p), cohorts * len(family))


def _reading(case: Case) -> Reading | None:
    reference = case.reference
    if reference is None or not reference.nulls or not case.watched:
        return None
    if case.patients < SMALLEST_K:
        return None
    return compare(reference.summary, case.summary, reference.nulls)


def _half_new(counted: CohortTally) -> bool:
    return 2 * counted.new_patients >= counted.patients


def _stated(case: Case, window: Window, digest: str) -> Measurement:
    """A measurement without a value; numerator over denominator is the mean over patients."""
    counted = bool(case.counted.patients)
    return Measurement(
        metric=METRIC,
        feature=case.feature,
        cohort=case.cohort,
        unit_of_analysis=UNIT,
        start=window.start,
        end=window.end,
        revision=0,
        value=None,
        numerator=case.mean_sum if counted else 0.0,
        denominator=case.patients if counted else 0.0,
        patients=case.patients if counted else 0,
        hours=case.counted.feature_hours[case.place] if counted else 0,
        state=State.INSUFFICIENT,
        reference=digest,
    )


def _suppressed(stated: Measurement) -> Measurement:
    return msgspec.structs.replace(
        stated, numerator=None, denominator=None, patients=None, hours=None, why="suppressed"
    )


def _untried(stated: Measurement, case: Case) -> Measurement:
    """Too few patients or hours, or nothing to hold them against: a value at most, no state."""
    reference = case.reference
    if reference is None or not reference.nulls:
        return msgspec.structs.replace(stated, why="no_reference")
    if not case.patients:
        return msgspec.structs.replace(stated, why="few_patients")
    value = float(psi(reference.weights, case.summary.weights))
    why = "few_patients" if case.patients < SMALLEST_K else "partly_watched"
    return msgspec.structs.replace(stated, value=value, why=why)


def _tried(stated: Measurement, case: Case, trial: Trial, *, twice: bool) -> Measurement:
    nulls = case.reference.nulls if case.reference else []
    watch, alarm = trial.p <= WATCH_P, trial.p <= ALARM_P
    state = State.OK
    if watch:
        state = State.ALARM if alarm or twice else State.WATCH
    return msgspec.structs.replace(
        stated,
        value=trial.reading.psi,
        threshold=threshold(nulls, case.patients, WATCH_P / trial.family),
        p_value=trial.p,
        direction=trial.reading.direction,
        state=state,
        why=_why(trial, twice=twice) if watch else "",
    )


def _why(trial: Trial, *, twice: bool) -> str:
    """Which statistic found it, or that it took two windows."""
    return "twice" if twice and trial.p > ALARM_P else trial.reading.by
