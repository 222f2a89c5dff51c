"""Whether the scores mean what they say: Brier, ECE, the calibration line, the top decile."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.stats.calibration import BINS, Line, curve, fit_line, sigmoid
from services.training.estimates import (
    INSUFFICIENT,
    Float64,
    Scored,
    Weights,
    by_totals,
    sum_cells,
)

_NAMES: Final = ("brier", "ece", "calibration_slope", "calibration_intercept", "top_decile_o_e")
_PATIENTS: Final = 100
_HOURS: Final = 1000
_TINY: Final = 1e-12


def calibrated(scored: Scored, counted: NDArray[np.bool_], weights: Weights) -> dict[str, Any]:
    """Measures of calibration over the counted hours; bins are those of all patients."""
    score, label = scored.score[counted], scored.stays.label[counted]
    patient = scored.stays.patient[counted]
    if len(weights) < _PATIENTS or len(score) < _HOURS or not label.any():
        return dict.fromkeys(_NAMES, INSUFFICIENT)
    place = np.empty(len(score), np.int64)
    for number, each in enumerate(curve(score, label)):
        place[each.rows] = number
    shape = (len(weights), BINS)
    came = sum_cells(label.astype(np.float64), patient, place, shape)
    said = sum_cells(score, patient, place, shape)
    hours = sum_cells(np.ones_like(score), patient, place, shape)
    squares = sum_cells((score - label) ** 2, patient, place, shape).sum(axis=1)
    mean = np.stack([squares, hours.sum(axis=1)], axis=1)
    top = np.stack([came[:, -1], said[:, -1]], axis=1)
    return {
        "brier": by_totals(mean, weights, _ratio),
        "ece": by_totals(np.concatenate([said - came, hours], axis=1), weights, _ece),
        **_line(score, label, patient, weights),
        "top_decile_o_e": by_totals(top, weights, _ratio),
    }


def _ratio(sums: Float64) -> float:
    return float(sums[0] / sums[1]) if sums[1] > 0 else float("nan")


def _ece(sums: Float64) -> float:
    gap, hours = np.split(sums, 2)
    return float(np.abs(gap).sum() / hours.sum())


def _line(
    score: Float64, label: NDArray[np.int8], patient: NDArray[np.int64], weights: Weights
) -> dict[str, Any]:
    """Intercept and slope; each replicate is one Newton step away from the line of all patients.

    The one-step bootstrap: Moulton and Zeger, Comput Stat Data Anal 1991;11:53-63.
    """
    inside = np.clip(score, _TINY, 1 - _TINY)
    logit = np.log(inside / (1 - inside))
    try:
        line = fit_line(logit, label)
    except ValueError:
        return dict.fromkeys(("calibration_slope", "calibration_intercept"), INSUFFICIENT)
    expected = sigmoid(line.intercept + line.slope * logit)
    error, spread = label - expected, expected * (1 - expected)
    terms = (error, error * logit, spread, spread * logit, spread * logit * logit)
    place, shape = np.zeros_like(patient), (len(weights), 1)
    sums = np.concatenate([sum_cells(term, patient, place, shape) for term in terms], axis=1)
    return {
        "calibration_slope": by_totals(sums, weights, lambda s: _stepped(line, s).slope),
        "calibration_intercept": by_totals(sums, weights, lambda s: _stepped(line, s).intercept),
    }


def _stepped(line: Line, sums: Float64) -> Line:
    """One Newton step from a line, by the sums of the gradient and of the curvature."""
    up, across, a, b, c = sums.tolist()
    determinant = a * c - b * b
    if not determinant > 0:
        return Line(float("nan"), float("nan"))
    intercept = line.intercept + (c * up - b * across) / determinant
    return Line(intercept, line.slope + (a * across - b * up) / determinant)
