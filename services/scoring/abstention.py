"""When there is too little to score, or nobody like it was seen: no score beats a wrong one."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import Cause
from services.core.features import Standing
from services.core.policy import Abstain
from services.core.support import Limits, Support, is_outside
from services.core.vitals import VARIABLES, VITALS

BEDSIDE: Final = len(VITALS)
"""The bedside vital signs are the first of the variables."""
NO_LIMITS: Final = Limits.of(Support(variables={}, most_outside=len(VARIABLES)))
"""Of a model that states none: everybody is within them."""
_NONE: Final = int(Cause.NONE)
_TOO_FEW: Final = int(Cause.TOO_FEW_VITALS)
_TOO_OLD: Final = int(Cause.TOO_OLD)
_OUTSIDE: Final = int(Cause.OUTSIDE_SUPPORT)

Array = npt.NDArray[Any]


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
    found = np.empty(len(standing.last), np.uint8)
    oldest_h = float(np.float32(rule.max_age_h))
    _find(rule.min_vitals, oldest_h, standing, support or NO_LIMITS, found)
    return found


@compiled
def _find(few: int, oldest_h: float, standing: Standing, limits: Limits, found: Array) -> None:
    """Fill in the cause of each row."""
    for row in range(len(found)):
        ever = recent = 0
        for vital in range(BEDSIDE):
            age_h = standing.last_age_h[row, vital]
            ever += np.isfinite(age_h)
            recent += age_h <= oldest_h
        if recent < few:
            found[row] = _TOO_OLD if ever >= few else _TOO_FEW
        elif is_outside(limits, standing.last[row], standing.age[row]):
            found[row] = _OUTSIDE
        else:
            found[row] = _NONE
