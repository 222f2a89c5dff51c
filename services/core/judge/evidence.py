"""A share of a cohort, and what it takes to believe it: patients, hours and final labels."""

import numpy as np

from services.core.judge.groups import Cohort, Float64
from services.core.judge.shares import FINAL_HOURS, MATURE, MATURITY, Share


def ratio(share: Share, cohort: Cohort) -> float:
    """Give the value of a share whose cohort has something below."""
    return share.times * share.told_in * cohort.total(*share.above) / cohort.total(*share.below)


def ratios(share: Share, cohort: Cohort) -> Float64:
    """Give the value in each bootstrap replicate, NaN where nothing is below, (B,)."""
    above, below = cohort.drawn(*share.above), cohort.drawn(*share.below)
    unknown = np.full_like(above, np.nan)
    return share.times * share.told_in * np.divide(above, below, where=below > 0, out=unknown)


def lacking(share: Share, cohort: Cohort) -> str:
    """Name what is missing for the number to be believed; nothing: ""."""
    if cohort.patients(*share.below) < share.least:
        return share.few
    if cohort.total(*FINAL_HOURS) < share.hours:
        return "few_hours"
    mature = maturity(cohort, share.matures)
    return "immature" if share.matures and (mature or 0.0) < MATURE else ""


def maturity(cohort: Cohort, unit: str) -> float | None:
    """Share of the units whose label is final; None where there is none, or no label is needed.

    An onset that nobody has told of yet is no unit, but an hour before it is: so of onsets only
    so many can be final as of hours.
    """
    if not unit:
        return None
    final, immature = MATURITY[unit]
    known, units = cohort.total(*final), cohort.total(*final, immature)
    of_hours = maturity(cohort, "hour") if unit == "onset" else None
    shares = [each for each in (known / units if units else None, of_hours) if each is not None]
    return min(shares, default=None)
