"""Scored stays, and how a measure of them gets its value and its interval by patient."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.stats.intervals import percentile
from services.training.source import Stays

Float64 = NDArray[np.float64]
Weights = NDArray[np.uint8]
"""(P, B): how often each patient counts in each replicate of the bootstrap."""

ENOUGH: Final = 20  # positive, negative or alerted patients
INSUFFICIENT: Final[dict[str, Any]] = {"value": None, "state": "insufficient"}


class Scored(NamedTuple):
    """Stays with a score and an alert in every hour, (R,) each; alerts by threshold alone.

    An hour without a score, NaN, is measured by its silence alone: in utility and first alerts.
    """

    stays: Stays
    score: Float64
    alert: NDArray[np.bool_]
    threshold: float


def by_totals(
    totals: Float64, weights: Weights, measure: Callable[[Float64], float]
) -> dict[str, Any]:
    """A measure of sums over patients, (P, m), with its interval from weighted sums."""
    # einsum without BLAS adds in one fixed order, so that a bundle's bytes can be made again.
    sums = np.einsum("pb,pm->bm", weights, totals, optimize=False)
    return estimate(measure(totals.sum(axis=0)), np.array([measure(each) for each in sums]))


def estimate(value: float, samples: Float64) -> dict[str, Any]:
    """A value with the interval of its replicates; `insufficient` where it is NaN."""
    if np.isnan(value):
        return INSUFFICIENT
    low, high = percentile(samples)
    return {"value": round(value, 4), "interval": [round(low, 4), round(high, 4)]}


def sum_cells(
    values: Float64, patient: NDArray[np.int64], place: NDArray[np.int64], shape: tuple[int, int]
) -> Float64:
    """Sums of values by patient and place, of this shape."""
    flat = np.bincount(patient * shape[1] + place, values, shape[0] * shape[1])
    return flat.astype(np.float64).reshape(shape)
