"""When there is too little to score: no score is better than a stale one."""

from typing import Final

import numpy as np
import numpy.typing as npt

from services.core.events import Cause
from services.core.features import Standing
from services.core.policy import Abstain
from services.core.vitals import VITALS

BEDSIDE: Final = len(VITALS)
"""The bedside vital signs are the first of the variables."""


def causes(rule: Abstain, standing: Standing) -> npt.NDArray[np.uint8]:
    """Say of each row why it is not scored, or NONE.

    Args:
        rule: what the policy asks for.
        standing: N rows.

    Returns:
        (N,) numbers of Cause: NONE, TOO_FEW_VITALS (never enough of them) or TOO_OLD.
    """
    ages_h = standing.last_age_h[:, :BEDSIDE]
    ever = np.isfinite(ages_h).sum(axis=1)
    recent = np.less_equal(ages_h, rule.max_age_h).sum(axis=1)
    short = np.where(ever < rule.min_vitals, Cause.TOO_FEW_VITALS, Cause.TOO_OLD)
    found: npt.NDArray[np.uint8] = np.where(recent >= rule.min_vitals, Cause.NONE, short).astype(
        np.uint8
    )
    return found
