"""What the service would have said of recorded stays: no score where it abstains, so no alert."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.core.events import Cause
from services.core.features import Standing
from services.core.stats.sketches import SMALLEST_CELL
from services.training.estimates import ENOUGH, INSUFFICIENT, Scored, Weights, by_totals, sum_cells
from services.training.matrix import batches
from services.training.measures import measures

Abstention = Callable[[Standing], NDArray[np.uint8]]
"""Gives of N rows the numbers of Cause, (N,): why there is no score, or NONE."""


def as_served(scored: Scored, weights: Weights, abstention: Abstention) -> dict[str, Any]:
    """Measures of the hours with a score, utility and first alerts of all; silence is no alert.

    `no_score` is the share of hours without one, `no_score_by_cause` its parts.
    """
    cause = np.concatenate([abstention(standing) for _, standing in batches(scored.stays)])
    silent = cause != Cause.NONE
    told = scored._replace(
        score=np.where(silent, np.nan, scored.score), alert=scored.alert & ~silent
    )
    return {
        **measures(told, weights),
        "no_score": _share(scored, weights, silent),
        "no_score_by_cause": {
            each.name.lower(): _share(scored, weights, cause == each)
            for each in Cause
            if each != Cause.NONE and np.any(cause == each)
        },
    }


def _share(scored: Scored, weights: Weights, silent: NDArray[np.bool_]) -> dict[str, Any]:
    patient, place = scored.stays.patient, np.zeros(len(silent), np.int64)
    if len(weights) < ENOUGH or 0 < len(np.unique(patient[silent])) < SMALLEST_CELL:
        return INSUFFICIENT
    of = sum_cells(silent.astype(np.float64), patient, place, (len(weights), 1))
    hours = np.diff(scored.stays.starts)[:, None]
    return by_totals(
        np.concatenate([of, hours], axis=1), weights, lambda sums: float(sums[0] / sums[1])
    )
