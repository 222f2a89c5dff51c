"""Measures of scored stays, each with its interval by patient and its demand for evidence."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.stats.performance import Confusion, Ranked
from services.core.stats.sketches import SMALLEST_CELL
from services.core.stats.utility import before_onset, normalized, stay_utilities
from services.training.calibrated import calibrated
from services.training.estimates import (
    ENOUGH,
    INSUFFICIENT,
    Float64,
    Scored,
    Weights,
    by_totals,
    estimate,
    sum_cells,
)
from services.training.first_alerts import first_alerts

_MANY: Final = 100  # patients, for a share of the healthy


def measures(scored: Scored, weights: Weights) -> dict[str, Any]:
    """Every measure with its interval, or `insufficient` where the evidence is too small."""
    stays = scored.stays
    counted = before_onset(stays.label, stays.starts) & ~np.isnan(scored.score)
    return {
        **_census(scored),
        "utility": _utility(scored, weights),
        **_ranked(scored, counted, weights),
        **calibrated(scored, counted, weights),
        **_alerted(scored, counted, weights),
        **first_alerts(scored, weights),
    }


def _census(scored: Scored) -> dict[str, Any]:
    septic = np.maximum.reduceat(scored.stays.label, scored.stays.starts[:-1])
    return {
        "patients": len(septic),
        "hours": int(np.count_nonzero(~np.isnan(scored.score))),
        "septic_patients": _shown(int(septic.sum())),
    }


def _utility(scored: Scored, weights: Weights) -> dict[str, Any]:
    totals = stay_utilities(scored.alert, scored.stays.label, scored.stays.starts)
    return by_totals(totals, weights, lambda sums: float(normalized(sums)))


def _ranked(scored: Scored, counted: NDArray[np.bool_], weights: Weights) -> dict[str, Any]:
    names = ("auroc", "auprc", "challenge_auroc", "challenge_auprc")
    positive = np.maximum.reduceat(scored.stays.label, scored.stays.starts[:-1]) == 1
    if min(positive.sum(), (~positive).sum()) < ENOUGH:
        return dict.fromkeys(names, INSUFFICIENT)
    found = {}
    for prefix, rows in (("", counted), ("challenge_", ~np.isnan(scored.score))):
        ranked = Ranked(scored.score[rows], scored.stays.label[rows])
        of = weights[scored.stays.patient[rows]]
        for name, measure in (("auroc", ranked.auroc), ("auprc", ranked.auprc)):
            samples = [measure(of[:, replicate]) for replicate in range(of.shape[1])]
            found[prefix + name] = estimate(measure(), np.array(samples))
    return found


def _alerted(scored: Scored, counted: NDArray[np.bool_], weights: Weights) -> dict[str, Any]:
    """Measures at the threshold; the four outcomes are summed by patient."""
    patient = scored.stays.patient[counted]
    alert = scored.alert[counted]
    cell = 2 * scored.stays.label[counted].astype(np.int64) + alert
    totals = sum_cells(np.ones(len(cell)), patient, cell, (len(weights), 4))[:, [3, 1, 2, 0]]
    septic, healthy = np.count_nonzero(totals[:, [0, 2]].any(axis=1)), len(weights)
    called = np.count_nonzero(totals[:, [0, 1]].any(axis=1))
    ready = {
        "sensitivity": septic >= ENOUGH,
        "specificity": healthy >= _MANY,
        "ppv": called >= ENOUGH,
        "npv": healthy >= _MANY,
        "f1": min(septic, called) >= ENOUGH,
        "alert_share": healthy >= ENOUGH,
    }
    found = {
        name: _outcome(totals, weights, name) if ready[name] else INSUFFICIENT for name in ready
    }
    odds = scored.threshold
    benefit = by_totals(totals, weights, lambda sums: Confusion(*sums).net_benefit(odds))
    return {**found, "net_benefit": benefit if ready["f1"] else INSUFFICIENT}


def _outcome(totals: Float64, weights: Weights, name: str) -> dict[str, Any]:
    return by_totals(totals, weights, lambda sums: float(getattr(Confusion(*sums), name)))


def _shown(patients: int) -> int | str:
    return patients if patients >= SMALLEST_CELL or patients == 0 else f"<{SMALLEST_CELL}"
