"""Whether a probability means what it says."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS: Final = 10
"""Equal-count bins of the calibration curve and of ECE."""

_STEPS: Final = 50
_CONVERGED: Final = 1e-10
_FLAT: Final = 1e-14
_NO_LINE: Final = "no logistic line fits these labels best"

Float64 = NDArray[np.float64]


class Line(NamedTuple):
    """Log-odds of the label as a line over a score's log-odds: perfect is (0, 1)."""

    intercept: float
    slope: float


class CurveBin(NamedTuple):
    """One bin of a calibration curve; `rows` holds the places of its rows."""

    mean_score: float
    observed: float
    rows: NDArray[np.int64]


def fit_line(logit: Float64, label: NDArray[np.integer]) -> Line:
    """Maximum-likelihood logistic line of the label over a log-odds score.

    As calibration intercept and slope: Cox, Biometrika 1958;45:562-565. As a calibrator: Platt,
    Advances in Large Margin Classifiers 1999:61-74. By Newton's method from (0, 1).

    Args:
        logit: (R,) finite.
        label: (R,) 0 or 1, both present.

    Raises:
        ValueError: no line fits best: one class is missing or the classes are separated.
    """
    line = np.array([0.0, 1.0])
    loss = _loss(line, logit, label)
    for _ in range(_STEPS):
        step = _newton_step(line, logit, label)
        lower = _loss(line + step, logit, label)
        # Far from the best line a whole step can overshoot; half of one, or of that, does not.
        while lower > loss and np.max(np.abs(step)) >= _CONVERGED:
            step = step / 2
            lower = _loss(line + step, logit, label)
        line, loss = line + step, lower
        if np.max(np.abs(step)) < _CONVERGED:
            return Line(float(line[0]), float(line[1]))
    raise ValueError(_NO_LINE)


def _newton_step(line: Float64, logit: Float64, label: NDArray[np.integer]) -> Float64:
    expected = sigmoid(line[0] + line[1] * logit)
    error, spread = label - expected, expected * (1 - expected)
    up, across = error.sum(), (error * logit).sum()
    a, b, c = spread.sum(), (spread * logit).sum(), (spread * logit * logit).sum()
    determinant = a * c - b * b
    # Classes that a line can separate flatten the likelihood for ever.
    if not determinant > _FLAT * max(a * c, 1.0):
        raise ValueError(_NO_LINE)
    step: Float64 = np.array([c * up - b * across, a * across - b * up]) / determinant
    return step


def _loss(line: Float64, logit: Float64, label: NDArray[np.integer]) -> float:
    """Negative log-likelihood."""
    log_odds = line[0] + line[1] * logit
    return float(np.sum(np.logaddexp(0, log_odds) - label * log_odds))


def sigmoid(logit: Float64) -> Float64:
    """Probability of a log-odds score.

    >>> float(sigmoid(np.array([0.0]))[0])
    0.5
    """
    with np.errstate(over="ignore"):
        probability: Float64 = 1 / (1 + np.exp(-logit))
    return probability


def brier(score: NDArray[np.floating], label: NDArray[np.integer]) -> float:
    """Mean squared distance of score and label (Brier, Mon Weather Rev 1950;78:1-3).

    >>> brier(np.array([0.0, 0.5]), np.array([0, 1]))
    0.125
    """
    return float(np.mean((score.astype(np.float64) - label) ** 2))


def curve(score: NDArray[np.floating], label: NDArray[np.integer]) -> list[CurveBin]:
    """Mean score and observed share in bins of equal count, from the lowest score."""
    order = np.argsort(score, kind="stable")
    return [
        CurveBin(float(np.mean(score[rows], dtype=np.float64)), float(np.mean(label[rows])), rows)
        for rows in np.array_split(order, BINS)
        if len(rows)
    ]


def expected_calibration_error(score: NDArray[np.floating], label: NDArray[np.integer]) -> float:
    """Mean distance of score and observed share over the curve, bins weighed by count.

    >>> round(expected_calibration_error(np.full(10, 0.2), np.array([1, 0, 0, 0, 0] * 2)), 6)
    0.32
    """
    return float(
        sum(abs(b.mean_score - b.observed) * len(b.rows) for b in curve(score, label)) / len(score)
    )


def observed_to_expected(score: NDArray[np.floating], label: NDArray[np.integer]) -> float:
    """Positives that came over positives that the scores announced; NaN if none was announced."""
    expected = float(np.sum(score, dtype=np.float64))
    return float(np.sum(label)) / expected if expected > 0 else float("nan")
