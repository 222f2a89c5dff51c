"""How far a window lies from its reference, and how often chance alone would take it there.

A histogram here is one weight per bin, in which each patient weighs 1 (`sketches.Histogram`).
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.core.stats.nulls import Null, looks, mean_p_value, p_value

Float64 = NDArray[np.float64]
Direction = Literal["higher", "lower", ""]

SMOOTHING: Final = 0.5
"""Jeffreys' prior: so much is added to every bin."""
SMALLEST_K: Final = 20
"""With fewer patients in the window no state is given."""


class Summary(NamedTuple):
    """One feature of a window or of a reference.

    Attributes:
        weights: per bin; each patient spreads 1 over its hours.
        mean: of the patients' means.
        patients: with an hour of the feature.
    """

    weights: Sequence[float]
    mean: float
    patients: int


class Reading(NamedTuple):
    """One feature of one window, held against its reference.

    Attributes:
        psi: population stability index, 0 for the same.
        js: Jensen-Shannon distance, 0 to 1.
        difference: of the window's mean from the reference's, in the feature's unit.
        direction: of the difference.
        p: how often chance alone would take psi or the mean so far; not corrected for the other
            features.
        by: which of the two is the less likely one.
    """

    psi: float
    js: float
    difference: float
    direction: Direction
    p: float
    by: Literal["psi", "mean"]


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


def compare(reference: Summary, window: Summary, nulls: Sequence[Null]) -> Reading:
    """Hold one feature of one window against its reference.

    Two statistics look: psi, which sees every change of shape, and the mean of the patients'
    means, which sees a small change of level earlier, the more so where stays that are cut by a
    window usually differ from whole ones. p is twice the smaller p of the two.

    Args:
        reference: the baseline's.
        window: in the reference's bins, of SMALLEST_K patients or more.
        nulls: of the feature; at least one.
    """
    distance = float(psi(reference.weights, window.weights))
    difference = window.mean - reference.mean
    by_psi = p_value(nulls, window.patients, distance)
    by_mean = mean_p_value(nulls, window.patients, difference) if nulls[0].mean else 1.0
    return Reading(
        psi=distance,
        js=js_distance(reference.weights, window.weights),
        difference=difference,
        direction="higher" if difference > 0 else "lower" if difference < 0 else "",
        p=min(1.0, looks(nulls) * min(by_psi, by_mean)),
        by="mean" if by_mean < by_psi else "psi",
    )
