"""How well scores tell apart and alerts hit, over weighted units of analysis."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.stats.intervals import median_ranks

Weights = NDArray[np.floating] | NDArray[np.integer]


class Ranked:
    """Scores in descending order, sorted once for any number of weightings.

    Args:
        score: (R,) finite.
        label: (R,) 0 or 1.
    """

    def __init__(self, score: NDArray[np.floating], label: NDArray[np.integer]) -> None:
        self._order = np.argsort(-score, kind="stable")
        ranked = score[self._order]
        self._positive = label[self._order] == 1
        self._ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)

    def auroc(self, weights: Weights | None = None) -> float:
        """Share of (positive, negative) pairs in the right order, ties counting half.

        NaN when one of the classes has no weight.

        >>> Ranked(np.array([0.9, 0.4, 0.4, 0.1]), np.array([1, 1, 0, 0])).auroc()
        0.875
        """
        hits, misses = self._cumulative(weights)
        pairs = hits[-1] * misses[-1]
        area = np.sum(np.diff(misses) * (hits[1:] + hits[:-1]) / 2)
        return float(area / pairs) if pairs > 0 else float("nan")

    def auprc(self, weights: Weights | None = None) -> float:
        """Average precision: the sum over thresholds of precision times the step in sensitivity.

        NaN without a positive.

        >>> round(Ranked(np.array([0.9, 0.4, 0.3]), np.array([1, 0, 1])).auprc(), 6)
        0.833333
        """
        hits, misses = self._cumulative(weights)
        if hits[-1] <= 0:
            return float("nan")
        called = np.maximum(hits[1:] + misses[1:], np.finfo(float).tiny)
        return float(np.sum(np.diff(hits) * hits[1:] / called) / hits[-1])

    def _cumulative(
        self, weights: Weights | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weight of positives and of negatives at or above each distinct score, from 0."""
        ranked = np.ones(len(self._order)) if weights is None else weights[self._order]
        hits = np.cumsum(np.where(self._positive, ranked, 0), dtype=np.float64)[self._ends]
        misses = np.cumsum(np.where(self._positive, 0, ranked), dtype=np.float64)[self._ends]
        return np.append(0.0, hits), np.append(0.0, misses)


class Confusion(NamedTuple):
    """Weights of the four outcomes of an alert; ratios are NaN where nothing counts."""

    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float

    @property
    def sensitivity(self) -> float:
        """Share of the positives that were alerted."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Share of the negatives that were not alerted."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def ppv(self) -> float:
        """Share of the alerts that were right."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def npv(self) -> float:
        """Share of the silences that were right."""
        return _ratio(self.true_negative, self.true_negative + self.false_negative)

    @property
    def f1(self) -> float:
        """Harmonic mean of PPV and sensitivity."""
        errors = self.false_positive + self.false_negative
        return _ratio(2 * self.true_positive, 2 * self.true_positive + errors)

    @property
    def alert_share(self) -> float:
        """Share of all units that were alerted."""
        return _ratio(self.true_positive + self.false_positive, sum(self))

    def net_benefit(self, threshold: float) -> float:
        """True alerts a unit, less false ones at the threshold's odds.

        Vickers and Elkin, Med Decis Making 2006;26:565-574.
        """
        odds = threshold / (1 - threshold)
        return _ratio(self.true_positive - odds * self.false_positive, sum(self))


def confusion(
    alert: NDArray[np.bool_], label: NDArray[np.integer], weights: Weights | None = None
) -> Confusion:
    """Count alerts against labels.

    >>> confusion(np.array([True, True, False]), np.array([1, 0, 1])).ppv
    0.5
    """
    cell = 2 * (label == 1) + alert
    true_negative, false_positive, false_negative, true_positive = np.bincount(
        cell, weights, minlength=4
    ).tolist()
    return Confusion(true_positive, false_positive, false_negative, true_negative)


class Lead(NamedTuple):
    """The median time from first alert to onset, with its 95 % interval; None: missed."""

    median: float | None
    low: float | None
    high: float | None


def lead(times: Sequence[float], missed: int) -> Lead:
    """Say how long before onset the first alert comes, where a missed case counts as missed.

    A missed case is shorter than any lead, so that where half or more are missed the median case
    is, too; leaving them out would make a model look the earlier the more it misses.

    Args:
        times: of the cases with an alert before onset, rising; not empty unless some are missed.
        missed: how many had none.

    >>> lead([2.0, 5.0, 7.0], missed=2).median, lead([2.0], missed=2).median
    (2.0, None)
    """
    cases = [*[None] * missed, *times]
    low, middle, high = median_ranks(len(cases))
    return Lead(cases[middle - 1], cases[low - 1], cases[high - 1])


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")
