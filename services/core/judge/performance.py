"""What labels say of a model's performance in one window, cohort by cohort."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from services.core.events import Measurement, State
from services.core.judge.calibration import differences
from services.core.judge.cells import hidden
from services.core.judge.evidence import lacking, maturity, ratio, ratios
from services.core.judge.groups import Cohort, cohorts_of
from services.core.judge.shares import (
    CALIBRATION,
    LEAD_TIME,
    POSITIVES,
    SHARES,
    Share,
)
from services.core.label_tallies import LabelTally
from services.core.stats.intervals import percentile, wilson
from services.core.stats.performance import lead
from services.core.windows import Window

_SECONDS_PER_HOUR: Final = 3600.0


class _Veil(NamedTuple):
    """What may not be shown of a cohort: its census, this number, how many are positive."""

    cohort: bool
    cell: bool
    positives: bool


class _Estimate(NamedTuple):
    """A number with its interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def performance(tally: LabelTally, window: Window) -> list[Measurement]:
    """Measure a window: each share of `shares.SHARES` and the lead time, of every cohort.

    No number by itself is watch or alarm: the bundle's validation interval is of another hospital,
    and a site has no reference for its performance yet. One that has its evidence is ok. Only the
    calibration of groups is held against each other.

    Args:
        tally: of the whole window, all partitions.
        window: that it is of.

    Returns:
        With revision 0, in a fixed order.
    """
    cohorts = list(cohorts_of(tally))
    small = _hidden(cohorts)
    positives = {unit: small | _hidden(cohorts, columns) for unit, columns in POSITIVES.items()}
    found = []
    for share in (*SHARES, LEAD_TIME):
        cells = small | _hidden(cohorts, share.below)
        for cohort in cohorts:
            name = cohort.name
            veil = _Veil(name in small, name in cells, name in positives[share.unit])
            found.append(_stated(share, cohort, window, veil))
    veiled = small | _hidden(cohorts, CALIBRATION.below) | positives[CALIBRATION.unit]
    shown = [cohort for cohort in cohorts if cohort.name not in veiled]
    return [*found, *differences(shown, window)]


def _hidden(cohorts: Iterable[Cohort], columns: Sequence[str] = ()) -> frozenset[str]:
    return hidden({cohort.name: cohort.patients(*columns) for cohort in cohorts})


def _stated(share: Share, cohort: Cohort, window: Window, veil: _Veil) -> Measurement:
    suppressed = Measurement(
        metric=share.metric,
        cohort=cohort.name,
        unit_of_analysis=share.unit,
        start=window.start,
        end=window.end,
        revision=0,
        value=None,
        patients=None if veil.cohort else cohort.patients(),
        positives=None if veil.positives else cohort.patients(*POSITIVES[share.unit]),
        hours=None if veil.cohort else round(cohort.total("hours")),
        maturity=None if veil.cohort else maturity(cohort, share.matures),
        state=State.INSUFFICIENT,
        why="suppressed",
    )
    return suppressed if veil.cell else _unveiled(suppressed, share, cohort)


def _unveiled(suppressed: Measurement, share: Share, cohort: Cohort) -> Measurement:
    """Say the number, too."""
    estimate = _lead(cohort) if share is LEAD_TIME else _ratio(share, cohort)
    lacks = lacking(share, cohort)
    missed = "missed" if share is LEAD_TIME and estimate.value is None else ""
    return msgspec.structs.replace(
        suppressed,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        numerator=cohort.total(*share.above),
        denominator=cohort.total(*share.below) / share.told_in,
        state=State.INSUFFICIENT if lacks else State.OK,
        why=lacks or missed,
    )


def _ratio(share: Share, cohort: Cohort) -> _Estimate:
    if not cohort.total(*share.below):
        return _Estimate()
    value = ratio(share, cohort)
    if not share.interval:
        return _Estimate(value)
    if share.interval == "wilson":
        return _Estimate(value, *wilson(cohort.total(*share.above), cohort.total(*share.below)))
    return _Estimate(value, *percentile(ratios(share, cohort)))


def _lead(cohort: Cohort) -> _Estimate:
    missed = round(cohort.total("led_missed"))
    if not cohort.leads and not missed:
        return _Estimate()
    found = lead([seconds / _SECONDS_PER_HOUR for seconds in cohort.leads], missed)
    return _Estimate(*found)
