"""The normalized utility of the PhysioNet/CinC 2019 challenge, from its definition.

Reyna et al., Crit Care Med 2020;48(2):210-217, doi:10.1097/CCM.0000000000004145. Onset is six
hours after the label switches to 1. With t hours from onset, an alert in a septic stay gains up
to 1: rising from 12 h before to 6 h before, falling to 0 at 3 h after, at worst -0.05 before.
Silence there costs nothing until 6 h before, then up to -2 at 3 h after. An alert in another
stay costs 0.05. Nothing counts later than 3 h after onset.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

EARLY_H: Final = -12.0
OPTIMAL_H: Final = -6.0
LATE_H: Final = 3.0
BEST_ALERT: Final = 1.0
WORST_SILENCE: Final = -2.0
FALSE_ALERT: Final = -0.05

_Float64 = NDArray[np.float64]


def hour_utilities(label: NDArray[np.integer], starts: NDArray[np.integer]) -> _Float64:
    """What silence (column 0) and an alert (column 1) are worth in each hour, (R, 2).

    Args:
        label: (R,) 0 or 1, the hours of all stays, each in order of time.
        starts: (P + 1,) the first row of each stay, and R.
    """
    from_onset = hours_from_onset(label, starts)
    septic = np.isfinite(from_onset)
    counts = ~septic | (from_onset <= LATE_H)
    rising = (from_onset - EARLY_H) / (OPTIMAL_H - EARLY_H)
    falling = (LATE_H - from_onset) / (LATE_H - OPTIMAL_H)
    gain = BEST_ALERT * np.where(from_onset <= OPTIMAL_H, rising, falling)
    late = np.maximum(from_onset - OPTIMAL_H, 0.0) / (LATE_H - OPTIMAL_H)
    alert = np.where(septic, np.maximum(gain, FALSE_ALERT), FALSE_ALERT)
    silence = np.where(septic, WORST_SILENCE * late, 0.0)
    return np.where(counts[:, None], np.stack([silence, alert], axis=1), 0.0)


def stay_utilities(
    alert: NDArray[np.bool_], label: NDArray[np.integer], starts: NDArray[np.integer]
) -> _Float64:
    """What each stay gained (0), could have gained (1) and would have gained in silence (2).

    Args:
        alert: (R,) whether there is an alert in each hour.
        label: as in `hour_utilities`.
        starts: as in `hour_utilities`.

    Returns:
        (P, 3); sums over any set of stays give that set's `normalized` utility.
    """
    worth = hour_utilities(label, starts)
    best = np.isfinite(hours_from_onset(label, starts)) & (worth[:, 1] >= 0)
    gained = np.where(alert, worth[:, 1], worth[:, 0])
    possible = np.where(best, worth[:, 1], worth[:, 0])
    hours = np.stack([gained, possible, worth[:, 0]], axis=1)
    totals: _Float64 = np.add.reduceat(hours, starts[:-1], axis=0)
    return totals


def normalized(totals: _Float64) -> _Float64:
    """1 for the best alerts, 0 for silence, below 0 for harm; NaN without a septic stay.

    Args:
        totals: (…, 3) sums of `stay_utilities` over stays.

    >>> label = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    >>> alert = np.array([False] * 6 + [True, False])
    >>> starts = np.array([0, 8])
    >>> float(normalized(stay_utilities(alert, label, starts).sum(axis=0)).round(6))
    0.216867
    """
    gained, possible, silent = np.moveaxis(np.asarray(totals, np.float64), -1, 0)
    room = possible - silent
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(room > 0, (gained - silent) / room, np.nan)


def best_threshold(score: NDArray[np.floating], worth: _Float64) -> float:
    """The threshold at or above which alerts gain the most in all.

    Args:
        score: (R,) finite.
        worth: (R, 2) from `hour_utilities`.

    >>> best_threshold(np.array([0.1, 0.2, 0.3]), np.array([[0, -1], [0, 2], [0, -0.5]]))
    0.2
    """
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    gained = np.cumsum(worth[order, 1] - worth[order, 0])
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    return float(ranked[ends[np.argmax(gained[ends])]])


def before_onset(label: NDArray[np.integer], starts: NDArray[np.integer]) -> NDArray[np.bool_]:
    """The hours that every other metric counts: all but those at or after onset, (R,)."""
    from_onset = hours_from_onset(label, starts)
    return ~np.isfinite(from_onset) | (from_onset < 0)


def hours_from_onset(label: NDArray[np.integer], starts: NDArray[np.integer]) -> _Float64:
    """Hours from onset of each row, negative before it; -inf in a stay without onset."""
    length = np.diff(starts)
    row = np.arange(float(len(label))) - np.repeat(starts[:-1], length)
    first = np.minimum.reduceat(np.where(label == 1, row, np.inf), starts[:-1])
    from_onset: _Float64 = row - np.repeat(first - OPTIMAL_H, length)
    return from_onset
