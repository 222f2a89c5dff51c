"""What labels say of a model's performance in one window, cohort by cohort."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from services.core.events import Measurement, State
from services.core.judge.cells import hidden
from services.core.judge.groups import Cohort, cohorts_of
from services.core.judge.shares import (
    FINAL_HOURS,
    LEAD_TIME,
    MATURE,
    MATURITY,
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

    Nothing here is watch or alarm: the bundle's validation interval is of another hospital, and a
    site has no reference for its performance yet. A number that has its evidence is ok.

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
    return found


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
        maturity=None if veil.cohort else _maturity(cohort, share.matures),
        state=State.INSUFFICIENT,
        why="suppressed",
    )
    return suppressed if veil.cell else _unveiled(suppressed, share, cohort)


def _unveiled(suppressed: Measurement, share: Share, cohort: Cohort) -> Measurement:
    """Say the number, too."""
    estimate = _lead(cohort) if share is LEAD_TIME else _ratio(share, cohort)
    lacks = _lacks(share, cohort)
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
    above, below = cohort.total(*share.above), cohort.total(*share.below)
    if not below:
        return _Estimate()
    scale = share.times * share.told_in
    if not share.interval:
        return _Estimate(scale * above / below)
    low, high = wilson(above, below) if share.interval == "wilson" else _drawn(share, cohort)
    return _Estimate(scale * above / below, scale * low, scale * high)


def _drawn(share: Share, cohort: Cohort) -> tuple[float, float]:
    above, below = cohort.drawn(*share.above), cohort.drawn(*share.below)
    return percentile(np.divide(above, below, where=below > 0, out=np.full_like(above, np.nan)))


def _lead(cohort: Cohort) -> _Estimate:
    missed = round(cohort.total("led_missed"))
    if not cohort.leads and not missed:
        return _Estimate()
    found = lead([seconds / _SECONDS_PER_HOUR for seconds in cohort.leads], missed)
    return _Estimate(*found)


def _lacks(share: Share, cohort: Cohort) -> str:
    """Name what is missing for the number to be believed; nothing: ""."""
    if cohort.patients(*share.below) < share.least:
        return share.few
    if cohort.total(*FINAL_HOURS) < share.hours:
        return "few_hours"
    maturity = _maturity(cohort, share.matures)
    return "immature" if share.matures and (maturity or 0.0) < MATURE else ""


def _maturity(cohort: Cohort, unit: str) -> float | None:
    """Share of the units whose label is final; None where there is none, or no label is needed.

    An onset that nobody has told of yet is no unit, but an hour before it is: so of onsets only
    so many can be final as of hours.
    """
    if not unit:
        return None
    final, immature = MATURITY[unit]
    known, units = cohort.total(*final), cohort.total(*final, immature)
    of_hours = _maturity(cohort, "hour") if unit == "onset" else None
    shares = [each for each in (known / units if units else None, of_hours) if each is not None]
    return min(shares, default=None)
