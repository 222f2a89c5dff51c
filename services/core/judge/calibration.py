"""Whether a score means the same in every group: calibration in the large, group by group."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Final

import numpy as np

from services.core.baseline import EVERYBODY
from services.core.events import Measurement, State
from services.core.judge.evidence import lacking, maturity, ratio, ratios
from services.core.judge.groups import Cohort
from services.core.judge.shares import CALIBRATION, ENOUGH, POSITIVE_HOURS
from services.core.stats.fairness import MARGIN, Difference, Gate, gate, simultaneous
from services.core.windows import Window

_STATES: Final[Mapping[Gate, State]] = {
    "pass": State.OK,
    "fail": State.ALARM,
    "insufficient": State.INSUFFICIENT,
}


def differences(cohorts: Sequence[Cohort], window: Window) -> Iterator[Measurement]:
    """Hold each group's observed over expected against that of the largest of its dimension.

    The intervals of a dimension hold together, and the gate is that of all differences.

    Args:
        cohorts: that may be shown.
        window: that they are of.
    """
    dimensions: dict[str, list[Cohort]] = {}
    for cohort in cohorts:
        if cohort.name != EVERYBODY and cohort.total(*CALIBRATION.below):
            dimensions.setdefault(cohort.name.partition("=")[0], []).append(cohort)
    for groups in dimensions.values():
        largest = max(groups, key=Cohort.patients)
        level = simultaneous(len(groups) - 1)
        for group in groups:
            if group is not largest:
                yield _difference(group, largest, window, level)


def _difference(group: Cohort, largest: Cohort, window: Window, level: float) -> Measurement:
    found = _interval(group, largest, level)
    lacks = _lacks(group) or _lacks(largest)
    verdict: Gate = "insufficient" if lacks else gate(found)
    return Measurement(
        metric="calibration_difference",
        cohort=group.name,
        unit_of_analysis=CALIBRATION.unit,
        start=window.start,
        end=window.end,
        revision=0,
        value=found.value,
        low=None if lacks else found.low,
        high=None if lacks else found.high,
        patients=group.patients(),
        positives=group.patients(*POSITIVE_HOURS),
        hours=round(group.total("hours")),
        maturity=maturity(group, CALIBRATION.matures),
        threshold=MARGIN,
        direction="higher" if found.value > 0 else "lower" if found.value < 0 else "",
        state=_STATES[verdict],
        why=lacks or ("wide_interval" if verdict == "insufficient" else ""),
        reference=largest.name,
    )


def _lacks(group: Cohort) -> str:
    """Beside what calibration takes, positive patients: the interval is one of normal errors."""
    few = group.patients(*POSITIVE_HOURS) < ENOUGH
    return lacking(CALIBRATION, group) or ("few_positives" if few else "")


def _interval(group: Cohort, largest: Cohort, level: float) -> Difference:
    """Difference with its interval from the spread of both groups in the same replicates.

    So a patient who was in both units counts in both, and is drawn for both.
    """
    value = ratio(CALIBRATION, group) - ratio(CALIBRATION, largest)
    spread = float(np.nanstd(ratios(CALIBRATION, group) - ratios(CALIBRATION, largest)))
    reach = NormalDist().inv_cdf((1 + level) / 2) * spread
    return Difference(value, value - reach, value + reach)
