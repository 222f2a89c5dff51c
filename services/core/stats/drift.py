"""How far a window lies from its reference, and how often chance alone would take it there.

A histogram here is one weight per bin, in which each patient weighs 1 (`sketches.Histogram`).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Direction = Literal["higher", "lower", ""]

SMOOTHING: Final = 0.5
"""Jeffreys' prior: so much is added to every bin."""
SMALLEST_K: Final = 20
"""With fewer patients in the window no state is given."""
_TAIL_POINTS: Final = 32


class Null(msgspec.Struct, frozen=True, kw_only=True):
    """What chance does to a statistic in windows of so many patients.

    Attributes:
        patients: K, in each drawn window.
        draws: B, how many were drawn.
        upper: the statistic at each p of `tail(draws)`, falling.
    """

    patients: int
    draws: int
    upper: list[float]


class Reading(NamedTuple):
    """One feature of one window, held against its reference.

    Attributes:
        psi: population stability index, 0 for the same.
        js: Jensen-Shannon distance, 0 to 1.
        shift: how much likelier than not a patient-hour of the window is higher than one of the
            reference, -0.5 to 0.5.
        direction: of the shift.
        p: how often chance alone reaches this psi; not corrected for the other features.
    """

    psi: float
    js: float
    shift: float
    direction: Direction
    p: float


def bin_of(values: ArrayLike, edges: ArrayLike) -> NDArray[np.int64]:
    """Bin of each value; edge i closes bin i on the right. Both are rounded to float32 first.

    >>> bin_of([36.9, 36.7, 36.6], [36.7]).tolist()
    [1, 0, 0]
    """
    rounded = np.asarray(values, np.float64).astype(np.float32)
    return np.searchsorted(np.asarray(edges, np.float64).astype(np.float32), rounded, side="left")


def shares(weights: ArrayLike) -> Float64:
    """Smoothed share of each bin; the last axis holds the bins.

    >>> shares([3.0, 0.0]).tolist()
    [0.875, 0.125]
    """
    smoothed = np.asarray(weights, np.float64) + SMOOTHING
    part: Float64 = smoothed / smoothed.sum(axis=-1, keepdims=True)
    return part


def psi(reference: ArrayLike, window: ArrayLike) -> Float64:
    """Population stability index of window histograms; the last axis holds the bins.

    Sum of (q - p) ln(q / p) over the bins, both smoothed (Jeffreys, Proc R Soc A 1946;186:453-461;
    as a monitor: Siddiqi, Credit Risk Scorecards, 2006).

    Args:
        reference: (..., bins) weights.
        window: (..., bins) weights.

    Returns:
        (...), 0 or more.

    >>> float(psi([50, 50], [5, 5])), round(float(psi([50, 50], [8, 2])), 4)
    (0.0, 0.3338)
    """
    p, q = shares(reference), shares(window)
    total: Float64 = ((q - p) * np.log(q / p)).sum(axis=-1)
    return total


def js_distance(reference: ArrayLike, window: ArrayLike) -> float:
    """Jensen-Shannon distance of two histograms, to base 2: 0 for the same, 1 for disjoint.

    Endres and Schindelin, IEEE Trans Inf Theory 2003;49:1858-1860; not smoothed. NaN when one is
    empty.

    >>> js_distance([1, 0], [0, 1])
    1.0
    """
    p, q = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    if not (p.sum() > 0 and q.sum() > 0):
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    divergence = (_entropy(middle) - (_entropy(p) + _entropy(q)) / 2).sum()
    return float(np.sqrt(max(divergence, 0.0)))


def _entropy(part: Float64) -> Float64:
    return -part * np.log2(np.where(part > 0, part, 1.0))


def shift(reference: ArrayLike, window: ArrayLike) -> Float64:
    """By how much a patient-hour of the window is likelier higher than lower, -0.5 to 0.5.

    The mean ridit less a half (Bross, Biometrics 1958;14:18-38), which is the Mann-Whitney share
    over bins; the last axis holds the bins.

    >>> float(shift([1, 1], [0, 2]))
    0.25
    """
    p, q = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    ridit = (np.cumsum(p, axis=-1) - p / 2) / p.sum(axis=-1, keepdims=True)
    mean: Float64 = (q * ridit).sum(axis=-1) / q.sum(axis=-1)
    return mean - 0.5


@lru_cache(maxsize=8)
def tail_ranks(draws: int) -> tuple[int, ...]:
    """Ranks of the draws, greatest first, that a compressed null keeps: 1 up to half of them."""
    spaced = np.geomspace(1, max((draws + 1) / 2 - 1, 1), _TAIL_POINTS)
    return tuple(sorted({round(float(rank)) for rank in spaced}))


@lru_cache(maxsize=8)
def tail(draws: int) -> tuple[float, ...]:
    """The p at which a compressed null of B draws says its statistic: (1 + rank) / (1 + B)."""
    return tuple((1 + rank) / (1 + draws) for rank in tail_ranks(draws))


def compress(drawn: Float64, patients: int) -> Null:
    """Keep what p-values of a half and below need of a statistic's draws, (B,)."""
    falling = np.sort(drawn)[::-1]
    kept = falling[np.array(tail_ranks(len(drawn))) - 1]
    return Null(patients=patients, draws=len(drawn), upper=[float(f"{each:.6g}") for each in kept])


def p_value(nulls: Sequence[Null], patients: int, statistic: float) -> float:
    """How often chance alone reaches a statistic in a window of so many patients.

    (1 + draws as great) / (1 + draws) at the points that were kept, log-linear between them. The
    null of a number of patients between two that were drawn lies between theirs, in logarithms
    of both; beyond the greatest it is the greatest's, which is strict with small changes.

    Args:
        nulls: rising in patients, of the same number of draws.
        patients: with an hour of the feature; SMALLEST_K or more.
        statistic: psi, or another of which great values are rare.

    Returns:
        From 1 / (1 + B) to 1; everything that is commoner than a half is between a half and 1.
    """
    upper, chance = _between(nulls, patients), tail(nulls[0].draws)
    if statistic > upper[0]:
        return 1 / (1 + nulls[0].draws)
    if statistic < upper[-1]:
        return float(1 - (1 - chance[-1]) * max(statistic, 0.0) / upper[-1])
    return float(np.exp(np.interp(statistic, upper[::-1], np.log(chance)[::-1])))


def critical(nulls: Sequence[Null], patients: int, p: float) -> float:
    """The statistic from which on chance is p or rarer in a window of so many patients.

    Args:
        nulls: as for `p_value`.
        patients: with an hour of the feature.
        p: of the tail; a smaller one than was drawn gives the greatest draw.
    """
    upper, chance = _between(nulls, patients), tail(nulls[0].draws)
    return float(np.interp(np.log(p), np.log(chance), upper))


def _between(nulls: Sequence[Null], patients: int) -> Float64:
    """The null of any number of patients, from those that were drawn."""
    known = np.log([null.patients for null in nulls])
    place = float(np.interp(np.log(patients), known, np.arange(len(nulls))))
    low, part = int(place), place - int(place)
    below = np.log(np.maximum(nulls[low].upper, 1e-300))
    above = np.log(np.maximum(nulls[min(low + 1, len(nulls) - 1)].upper, 1e-300))
    return np.asarray(np.exp((1 - part) * below + part * above))


def holm(p: Sequence[float]) -> list[float]:
    """Correct the p-values of a family; Holm, Scand J Stat 1979;6:65-70.

    >>> [round(each, 3) for each in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p)), key=lambda place: p[place])
    corrected, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = least
    return corrected


def compare(
    reference: Sequence[float], window: Sequence[float], patients: int, nulls: Sequence[Null]
) -> Reading:
    """Hold one feature of one window against its reference.

    Args:
        reference: weights of the reference's bins.
        window: weights of the window's, in the same bins.
        patients: of the window with an hour of the feature, SMALLEST_K or more.
        nulls: of the feature; at least one.
    """
    moved = float(shift(reference, window))
    distance = float(psi(reference, window))
    return Reading(
        psi=distance,
        js=js_distance(reference, window),
        shift=moved,
        direction="higher" if moved > 0 else "lower" if moved < 0 else "",
        p=p_value(nulls, patients, distance),
    )
