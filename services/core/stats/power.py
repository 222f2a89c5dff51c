"""How large a change must be, or how many patients it takes, for drift to be seen."""

from collections.abc import Sequence
from math import erf, sqrt
from typing import Final

from services.core.stats.drift import SMALLEST_K
from services.core.stats.nulls import Null, looks, mean_threshold

_MEDIAN: Final = 0.6744897501960817
"""Of the absolute value of a standard normal number."""
_MOST: Final = 1000


def power(nulls: Sequence[Null], *, patients: int, change: float, p: float) -> float:
    """Chance that one window shows a change of the mean, 0 to 1.

    The mean of a window is taken for normal about where the change puts it, as wide as its null
    is at its middle. A change of shape that leaves the mean alone may be seen earlier, by psi.
    Below SMALLEST_K patients, where no state is given, all distances grow with 1 / sqrt(K).

    Args:
        nulls: of the feature, with those of its mean.
        patients: K of the window.
        change: of the population's mean, in the feature's unit; of presence a share.
        p: uncorrected, at which the feature is called.
    """
    known = max(patients, SMALLEST_K)
    wider = sqrt(known / patients)
    spread = mean_threshold(nulls, known, 0.5 * looks(nulls)) / _MEDIAN * wider
    reach = mean_threshold(nulls, known, p) * wider
    return _above((reach - change) / spread) + _above((reach + change) / spread)


def patients_needed(
    nulls: Sequence[Null], *, change: float, p: float, chance: float = 0.5
) -> int | None:
    """Smallest K at which one window shows the change with such a chance; None: not by 1,000."""
    if power(nulls, patients=_MOST, change=change, p=p) < chance:
        return None
    low, high = 0, _MOST
    while high - low > 1:
        middle = (low + high) // 2
        seen = power(nulls, patients=middle, change=change, p=p) >= chance
        low, high = (low, middle) if seen else (middle, high)
    return high


def _above(standard: float) -> float:
    """Share of a normal distribution above so many standard deviations."""
    return 0.5 * (1 - erf(standard / sqrt(2)))
