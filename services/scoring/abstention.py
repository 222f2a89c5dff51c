"""When there is too little to score, or nobody like it was seen: no score beats a wrong one."""

from typing import Final

import numpy as np
import numpy.typing as npt

from services.core.events import Cause
from services.core.features import Standing
from services.core.policy import Abstain
from services.core.support import Limits, outside
from services.core.vitals import VITALS

BEDSIDE: Final = len(VITALS)
"""The bedside vital signs are the first of the variables."""


def causes(
    rule: Abstain, standing: Standing, support: Limits | None = None
) -> npt.NDArray[np.uint8]:
    """Say of each row why it is not scored, or NONE.

    Args:
        rule: what the policy asks for.
        standing: N rows.
        support: the limits of the patients that the model learned from; None: it states none.

    Returns:
        (N,) numbers of Cause: NONE, TOO_FEW_VITALS (never enough of them), TOO_OLD or, of what is
        enough and recent, OUTSIDE_SUPPORT.
    """
    ages_h = standing.last_age_h[:, :BEDSIDE]
    recent = np.count_nonzero(ages_h <= rule.max_age_h, axis=1) >= rule.min_vitals
    found = np.zeros(len(recent), np.uint8)
    if not recent.all():
        ever = np.count_nonzero(np.isfinite(ages_h), axis=1) >= rule.min_vitals
        found[~recent] = np.where(ever[~recent], Cause.TOO_OLD, Cause.TOO_FEW_VITALS)
    if support is not None:
        found[recent & outside(support, standing.last, standing.age)] = Cause.OUTSIDE_SUPPORT
    return found
