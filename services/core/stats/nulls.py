"""What chance does to a statistic in windows of K patients, compressed, and p-values from it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_TAIL_POINTS: Final = 32
_TINY: Final = 1e-300


class Null(msgspec.Struct, frozen=True, kw_only=True):
    """What chance does to a feature in windows of so many patients.

    Attributes:
        patients: K, in each drawn window.
        draws: B, how many were drawn.
        psi: the drawn psi at each p of `tail(draws)`, falling.
        center: the usual difference of the window's mean from the reference's; stays are cut by
            windows, so it need not be 0.
        mean: by how much the difference leaves its center, either way, at each p, falling; empty
            where psi alone looks.
    """

    patients: int
    draws: int
    psi: tuple[float, ...]
    center: float = 0.0
    mean: tuple[float, ...] = ()


@lru_cache(maxsize=8)
def tail_ranks(draws: int) -> tuple[int, ...]:
    """Ranks of the draws, greatest first, that a compressed null keeps: 1 up to half of them."""
    spaced = np.geomspace(1, max((draws + 1) / 2 - 1, 1), _TAIL_POINTS)
    return tuple(sorted({round(float(rank)) for rank in spaced}))


@lru_cache(maxsize=8)
def tail(draws: int) -> tuple[float, ...]:
    """The p at which a compressed null of B draws says its statistic: (1 + rank) / (1 + B)."""
    return tuple((1 + rank) / (1 + draws) for rank in tail_ranks(draws))


def compress(drawn: Float64) -> tuple[float, ...]:
    """Keep what p-values of a half and below need of a statistic's draws, (B,).

    Rounded upward to six digits: what ties with a draw is never taken to be beyond it.
    """
    falling = np.sort(drawn)[::-1]
    kept = falling[np.array(tail_ranks(len(drawn))) - 1] * (1 + 5e-6)
    return tuple(float(f"{each:.6g}") for each in kept)


def looks(nulls: Sequence[Null]) -> int:
    """How many statistics look at the feature: its p is so many times the smallest of theirs."""
    return 2 if nulls[0].mean else 1


def p_value(nulls: Sequence[Null], patients: int, psi_found: float) -> float:
    """How often chance alone reaches a psi in a window of so many patients.

    (1 + draws as great) / (1 + draws) at the points that were kept, log-linear between them. The
    null of a number of patients between two that were drawn lies between theirs, in logarithms
    of both; beyond the greatest it is the greatest's, which calls less.

    Args:
        nulls: rising in patients, of the same number of draws.
        patients: with an hour of the feature; SMALLEST_K or more.
        psi_found: the window's.

    Returns:
        From 1 / (1 + B) to 1; whatever is commoner than a half is between a half and 1.
    """
    return _chance(_between([null.psi for null in nulls], nulls, patients), nulls, psi_found)


def mean_p_value(nulls: Sequence[Null], patients: int, difference: float) -> float:
    """How often chance alone takes the mean so far, either way; otherwise as `p_value`."""
    beyond = abs(difference - center_of(nulls, patients))
    return _chance(_between([null.mean for null in nulls], nulls, patients), nulls, beyond)


def center_of(nulls: Sequence[Null], patients: int) -> float:
    """The usual difference of a window's mean from the reference's, in the feature's unit."""
    low, high, part = _place(nulls, patients)
    return (1 - part) * nulls[low].center + part * nulls[high].center


def threshold(nulls: Sequence[Null], patients: int, p: float) -> float:
    """The psi from which on `compare` gives at most p in a window of so many patients.

    A smaller p than was drawn gives the greatest draw.
    """
    return _critical([null.psi for null in nulls], nulls, patients, p / looks(nulls))


def mean_threshold(nulls: Sequence[Null], patients: int, p: float) -> float:
    """How far the mean must leave its center, in the feature's unit; see `threshold`.

    Infinite for a feature that has no such null.
    """
    if not nulls[0].mean:
        return float("inf")
    return _critical([null.mean for null in nulls], nulls, patients, p / looks(nulls))


def _critical(
    curves: Sequence[Sequence[float]], nulls: Sequence[Null], patients: int, p: float
) -> float:
    upper, chance = _between(curves, nulls, patients), tail(nulls[0].draws)
    return float(np.interp(np.log(p), np.log(chance), upper))


def _chance(upper: Float64, nulls: Sequence[Null], found: float) -> float:
    rising, chance = upper[::-1], np.log(tail(nulls[0].draws))[::-1]
    place = int(np.searchsorted(rising, found, side="left"))
    if place == len(rising):
        return 1 / (1 + nulls[0].draws)
    if place == 0:
        half = float(np.exp(chance[0]))
        return 1 - (1 - half) * max(found, 0.0) / float(rising[0]) if rising[0] > 0 else 1.0
    # Among equal draws the last one counts: all of them are as great.
    part = (found - rising[place - 1]) / (rising[place] - rising[place - 1])
    return float(np.exp((1 - part) * chance[place - 1] + part * chance[place]))


def _between(curves: Sequence[Sequence[float]], nulls: Sequence[Null], patients: int) -> Float64:
    """The curve of any number of patients, from those that were drawn."""
    low, high, part = _place(nulls, patients)
    below = np.log(np.maximum(curves[low], _TINY))
    above = np.log(np.maximum(curves[high], _TINY))
    return np.asarray(np.exp((1 - part) * below + part * above))


def _place(nulls: Sequence[Null], patients: int) -> tuple[int, int, float]:
    known = np.log([null.patients for null in nulls])
    place = float(np.interp(np.log(patients), known, np.arange(len(nulls))))
    low = int(place)
    return low, min(low + 1, len(nulls) - 1), place - low
