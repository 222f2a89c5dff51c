"""Stays by their first alert: found or missed, how early, at what burden."""

from typing import Any

import numpy as np

from services.core.stats.intervals import median_ranks
from services.core.stats.performance import Confusion
from services.core.stats.sketches import SMALLEST_CELL
from services.training.estimates import (
    ENOUGH,
    INSUFFICIENT,
    Float64,
    Scored,
    Weights,
    by_totals,
)


def first_alerts(scored: Scored, weights: Weights) -> dict[str, Any]:
    """Measures of first alerts; one at or after onset comes too late and counts as a miss."""
    stays = scored.stays
    row = np.arange(len(scored.alert))
    never = len(row)
    first = np.minimum.reduceat(np.where(scored.alert, row, never), stays.starts[:-1])
    switch = np.minimum.reduceat(np.where(stays.label == 1, row, never), stays.starts[:-1])
    septic, called = switch < never, first < never
    lead_h = np.where(called, switch + 6.0 - first, -np.inf)
    hit = septic & (lead_h > 0)
    outcomes = np.stack([hit, called & ~hit, septic & ~hit, np.zeros_like(hit)], axis=1)
    burden = np.stack([called, np.diff(stays.starts)], axis=1).astype(np.float64)
    # A stay that is positive from its first row has no start from which to lead.
    timed = septic & (switch > stays.starts[:-1])
    found = {
        "sensitivity": _share("sensitivity", outcomes.astype(np.float64), weights, septic.sum()),
        "ppv": _share("ppv", outcomes.astype(np.float64), weights, called.sum()),
        "per_100_patient_days": by_totals(burden, weights, _per_100_patient_days)
        if called.sum() >= SMALLEST_CELL
        else INSUFFICIENT,
        "lead_h": _lead(lead_h[timed]),
    }
    return {f"first_alert_{name}": measure for name, measure in found.items()}


def _share(name: str, outcomes: Float64, weights: Weights, evidence: int) -> dict[str, Any]:
    if evidence < ENOUGH:
        return INSUFFICIENT
    return by_totals(outcomes, weights, lambda sums: float(getattr(Confusion(*sums), name)))


def _per_100_patient_days(sums: Float64) -> float:
    return 100 * 24 * float(sums[0] / sums[1])


def _lead(lead_h: Float64) -> dict[str, Any]:
    """Quartiles of the lead time to onset over septic stays; null where the stay was missed."""
    if len(lead_h) < ENOUGH:
        return INSUFFICIENT
    lead_h = np.sort(lead_h)
    quartiles = np.quantile(lead_h, (0.25, 0.5, 0.75), method="inverted_cdf").tolist()
    low, _, high = median_ranks(len(lead_h))
    names = ("lower_quartile", "median", "upper_quartile")
    return {
        **{name: _in_time(q) for name, q in zip(names, quartiles, strict=True)},
        "median_interval": [_in_time(float(lead_h[rank - 1])) for rank in (low, high)],
    }


def _in_time(hours: float) -> float | None:
    return hours if hours > 0 else None
