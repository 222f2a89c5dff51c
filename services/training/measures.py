"""Measures of scored stays, each with its interval by patient and its demand for evidence."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.stats.calibration import curve, fit_line, observed_to_expected
from services.core.stats.intervals import percentile
from services.core.stats.performance import Confusion, Ranked
from services.core.stats.sketches import SMALLEST_CELL
from services.core.stats.utility import before_onset, normalized, stay_utilities
from services.training.source import Stays

Float64 = NDArray[np.float64]
Totals = Float64
"""(P, m): sums by patient, from which a measure of any weighting of patients follows."""

_ENOUGH: Final = 20  # positive, negative or alerted patients
_CALIBRATION_PATIENTS: Final = 100
_CALIBRATION_HOURS: Final = 1000
_TINY: Final = 1e-12


_INSUFFICIENT: Final[dict[str, Any]] = {"value": None, "state": "insufficient"}


class Scored(NamedTuple):
    """Stays with a score and an alert in every hour, (R,) each; alerts by threshold alone."""

    stays: Stays
    score: Float64
    alert: NDArray[np.bool_]
    threshold: float


def measures(scored: Scored, weights: NDArray[np.uint8]) -> dict[str, Any]:
    """Every measure with its interval, or `insufficient` where the evidence is too small."""
    stays = scored.stays
    counted = before_onset(stays.label, stays.starts)
    utility = stay_utilities(scored.alert, stays.label, stays.starts)
    return {
        **_census(scored),
        "utility": _by_totals(utility, weights, lambda sums: float(normalized(sums))),
        **_ranked(scored, counted, weights),
        **_calibrated(scored, counted, weights),
        **_alerted(scored, counted, weights),
        **_first_alerts(scored, weights),
    }


def _census(scored: Scored) -> dict[str, Any]:
    septic = np.maximum.reduceat(scored.stays.label, scored.stays.starts[:-1])
    return {
        "patients": len(septic),
        "hours": len(scored.score),
        "septic_patients": _shown(int(septic.sum())),
    }


def _ranked(
    scored: Scored, counted: NDArray[np.bool_], weights: NDArray[np.uint8]
) -> dict[str, Any]:
    names = ("auroc", "auprc", "challenge_auroc", "challenge_auprc")
    positive = np.maximum.reduceat(scored.stays.label, scored.stays.starts[:-1]) == 1
    if min(positive.sum(), (~positive).sum()) < _ENOUGH:
        return dict.fromkeys(names, _INSUFFICIENT)
    found = {}
    for prefix, rows in (("", counted), ("challenge_", np.ones_like(counted))):
        ranked = Ranked(scored.score[rows], scored.stays.label[rows])
        of = weights[scored.stays.patient[rows]]
        for name, measure in (("auroc", ranked.auroc), ("auprc", ranked.auprc)):
            samples = [measure(of[:, replicate]) for replicate in range(of.shape[1])]
            found[prefix + name] = _estimate(measure(), np.array(samples))
    return found


def _calibrated(
    scored: Scored, counted: NDArray[np.bool_], weights: NDArray[np.uint8]
) -> dict[str, Any]:
    names = ("brier", "ece", "calibration_slope", "calibration_intercept", "top_decile_o_e")
    score, label = scored.score[counted], scored.stays.label[counted]
    if len(weights) < _CALIBRATION_PATIENTS or len(score) < _CALIBRATION_HOURS or not label.any():
        return dict.fromkeys(names, _INSUFFICIENT)
    bins = curve(score, label)
    place = np.empty(len(score), np.int64)
    for number, each in enumerate(bins):
        place[each.rows] = number
    cells = (scored.stays.patient[counted], place, len(weights), len(bins))
    gap = _sum_cells(score - label, *cells)
    squares = _sum_cells((score - label) ** 2, *cells).sum(axis=1)
    hours = _sum_cells(np.ones_like(score), *cells)
    top = bins[-1].rows
    return {
        "brier": _by_totals(
            np.stack([squares, hours.sum(axis=1)], axis=1), weights, lambda s: float(s[0] / s[1])
        ),
        "ece": _by_totals(np.concatenate([gap, hours], axis=1), weights, _ece),
        **_calibration_line(score, label),
        "top_decile_o_e": {"value": round(observed_to_expected(score[top], label[top]), 4)},
    }


def _calibration_line(score: Float64, label: NDArray[np.int8]) -> dict[str, Any]:
    inside = np.clip(score, _TINY, 1 - _TINY)
    try:
        line = fit_line(np.log(inside / (1 - inside)), label)
    except ValueError:
        return dict.fromkeys(("calibration_slope", "calibration_intercept"), _INSUFFICIENT)
    return {
        "calibration_slope": {"value": round(line.slope, 4)},
        "calibration_intercept": {"value": round(line.intercept, 4)},
    }


def _ece(sums: Float64) -> float:
    gap, hours = np.split(sums, 2)
    return float(np.abs(gap).sum() / hours.sum())


def _sum_cells(
    values: Float64, patient: NDArray[np.int64], place: NDArray[np.int64], patients: int, bins: int
) -> Totals:
    flat = np.bincount(patient * bins + place, values, patients * bins)
    return flat.astype(np.float64).reshape(patients, bins)


def _alerted(
    scored: Scored, counted: NDArray[np.bool_], weights: NDArray[np.uint8]
) -> dict[str, Any]:
    """Measures at the threshold; the four outcomes are summed by patient."""
    patient = scored.stays.patient[counted]
    alert = scored.alert[counted]
    cell = 2 * scored.stays.label[counted].astype(np.int64) + alert
    totals = _sum_cells(np.ones(len(cell)), patient, cell, len(weights), 4)[:, [3, 1, 2, 0]]
    septic, healthy = np.count_nonzero(totals[:, [0, 2]].any(axis=1)), len(weights)
    called = np.count_nonzero(totals[:, [0, 1]].any(axis=1))
    ready = {
        "sensitivity": septic >= _ENOUGH,
        "specificity": healthy >= _CALIBRATION_PATIENTS,
        "ppv": called >= _ENOUGH,
        "npv": healthy >= _CALIBRATION_PATIENTS,
        "f1": min(septic, called) >= _ENOUGH,
        "alert_share": healthy >= _ENOUGH,
    }
    found = {
        name: _outcome(totals, weights, name) if ready[name] else _INSUFFICIENT for name in ready
    }
    odds = scored.threshold
    benefit = _by_totals(totals, weights, lambda sums: Confusion(*sums).net_benefit(odds))
    return {**found, "net_benefit": benefit if ready["f1"] else _INSUFFICIENT}


def _outcome(totals: Totals, weights: NDArray[np.uint8], name: str) -> dict[str, Any]:
    return _by_totals(totals, weights, lambda sums: float(getattr(Confusion(*sums), name)))


def _first_alerts(scored: Scored, weights: NDArray[np.uint8]) -> dict[str, Any]:
    """Stays by their first alert; one at or after onset comes too late and counts as a miss."""
    stays = scored.stays
    row = np.arange(len(scored.alert))
    never = len(row)
    first = np.minimum.reduceat(np.where(scored.alert, row, never), stays.starts[:-1])
    switch = np.minimum.reduceat(np.where(stays.label == 1, row, never), stays.starts[:-1])
    septic, called = switch < never, first < never
    lead_h = np.where(called, switch + 6.0 - first, -np.inf)
    hit = septic & (lead_h > 0)
    hours = np.diff(stays.starts)
    totals = np.stack([hit, called & ~hit, septic & ~hit, called, hours], axis=1).astype(float)
    rates = _by_totals(totals, weights, lambda s: 100 * 24 * float(s[3] / s[4]))
    enough = {"sensitivity": septic.sum() >= _ENOUGH, "ppv": called.sum() >= _ENOUGH}
    # A stay that is positive from its first row has no start from which to lead.
    timed = septic & (switch > stays.starts[:-1])
    return {
        **{
            f"first_alert_{name}": _outcome(
                np.column_stack([totals[:, :3], np.zeros(len(totals))]), weights, name
            )
            if enough[name]
            else _INSUFFICIENT
            for name in enough
        },
        "first_alert_per_100_patient_days": rates
        if called.sum() >= SMALLEST_CELL
        else _INSUFFICIENT,
        "first_alert_lead_h": _lead(lead_h[timed]),
    }


def _lead(lead_h: Float64) -> dict[str, Any]:
    """Quartiles of the lead time to onset over septic stays; null where the stay was missed."""
    if len(lead_h) < _ENOUGH:
        return _INSUFFICIENT
    quartiles = np.quantile(np.maximum(lead_h, 0), (0.25, 0.5, 0.75), method="inverted_cdf")
    names = ("lower_quartile", "median", "upper_quartile")
    return {name: float(q) if q > 0 else None for name, q in zip(names, quartiles, strict=True)}


def _by_totals(
    totals: Totals, weights: NDArray[np.uint8], measure: Callable[[Float64], float]
) -> dict[str, Any]:
    """A measure of sums over patients, with its interval from the replicates' weighted sums."""
    # einsum without BLAS adds in one fixed order, so that a bundle's bytes can be made again.
    sums = np.einsum("pb,pm->bm", weights, totals, optimize=False)
    return _estimate(measure(totals.sum(axis=0)), np.array([measure(each) for each in sums]))


def _estimate(value: float, samples: Float64) -> dict[str, Any]:
    if np.isnan(value):
        return _INSUFFICIENT
    low, high = percentile(samples)
    return {"value": round(value, 4), "interval": [round(low, 4), round(high, 4)]}


def _shown(patients: int) -> int | str:
    return patients if patients >= SMALLEST_CELL or patients == 0 else f"<{SMALLEST_CELL}"
