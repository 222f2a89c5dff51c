"""The judge of subgroups: who is alerted and who is never scored, held against the largest group.

Of every group its share, with a score interval; and its difference to the largest group of the
dimension, with an interval that holds for all of them together and a gate.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from services.core.baseline import EVERYBODY
from services.core.events import Measurement, State
from services.core.judge.cells import hidden
from services.core.stats.fairness import (
    MARGIN,
    Gate,
    Share,
    difference,
    gate,
    score_interval,
    simultaneous,
)
from services.core.tallies import GroupTally, HourTally
from services.core.windows import Window

UNIT: Final = "patient"
FEWEST: Final = 20
"""Patients of a group below which its share is not judged."""
_STATES: Final[Mapping[Gate, State]] = {
    "pass": State.OK,
    "fail": State.ALARM,
    "insufficient": State.INSUFFICIENT,
}


class Group(NamedTuple):
    """A cohort and the share of its patients that is asked about."""

    cohort: str
    share: Share


def subgroups(tally: HourTally, window: Window) -> list[Measurement]:
    """Judge the alert rate and the not-scored rate of every group.

    Args:
        tally: of the whole window.
        window: that it is of.
    """
    found = []
    for metric in ("alert_rate", "not_scored_rate"):
        for groups in _dimensions(tally, metric):
            veil = hidden({group.cohort: group.share.trials for group in groups})
            found += [
                _rate(metric, group, window, veiled=group.cohort in veil) for group in groups
            ]
            shown = [group for group in groups if group.cohort not in veil]
            found += _differences(metric, shown, window)
    return found


def _dimensions(tally: HourTally, metric: str) -> Iterator[list[Group]]:
    """Everybody, then the groups of each dimension."""
    dimensions = sorted(tally.groups.items())
    if dimensions:
        shares = [_share(group, metric) for group in dimensions[0][1].values()]
        whole = Share(sum(s.successes for s in shares), sum(s.trials for s in shares))
        yield [Group(EVERYBODY, whole)]
    for dimension, groups in dimensions:
        yield [Group(f"{dimension}={k}", _share(g, metric)) for k, g in sorted(groups.items())]


def _share(group: GroupTally, metric: str) -> Share:
    return Share(group.alerted if metric == "alert_rate" else group.not_scored, group.patients)


def _rate(metric: str, group: Group, window: Window, *, veiled: bool) -> Measurement:
    low, high = score_interval(group.share)
    enough = group.share.trials >= FEWEST
    return Measurement(
        metric=metric,
        cohort=group.cohort,
        unit_of_analysis=UNIT,
        start=window.start,
        end=window.end,
        revision=0,
        value=None if veiled else group.share.successes / group.share.trials,
        low=None if veiled else low,
        high=None if veiled else high,
        numerator=None if veiled else group.share.successes,
        denominator=None if veiled else group.share.trials,
        patients=None if veiled else group.share.trials,
        state=State.OK if enough and not veiled else State.INSUFFICIENT,
        why="suppressed" if veiled else "" if enough else "few_patients",
    )


def _differences(metric: str, groups: list[Group], window: Window) -> Iterator[Measurement]:
    """Each group against the largest; of equally large ones the first by name."""
    if len(groups) < 2:  # noqa: PLR2004 - it takes two
        return
    largest = max(groups, key=lambda group: group.share.trials)
    level = simultaneous(len(groups) - 1)
    for group in groups:
        if group is not largest:
            yield _difference(metric, group, largest, window, level=level)


def _difference(
    metric: str, group: Group, largest: Group, window: Window, *, level: float
) -> Measurement:
    found = difference(group.share, largest.share, level)
    few = min(group.share.trials, largest.share.trials) < FEWEST
    verdict: Gate = "insufficient" if few else gate(found)
    wide = "wide_interval" if verdict == "insufficient" else ""
    return Measurement(
        metric=f"{metric}_difference",
        cohort=group.cohort,
        unit_of_analysis=UNIT,
        start=window.start,
        end=window.end,
        revision=0,
        value=found.value,
        low=found.low,
        high=found.high,
        patients=group.share.trials,
        threshold=MARGIN,
        direction="higher" if found.value > 0 else "lower" if found.value < 0 else "",
        state=_STATES[verdict],
        why="few_patients" if few else wide,
        reference=largest.cohort,
    )
