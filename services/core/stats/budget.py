"""A threshold from scores alone: as many alerts as a ward can answer, wherever the scores lie."""

import math

import numpy as np
from numpy.typing import NDArray


def threshold_within(score: NDArray[np.floating], share: float) -> float:
    """Give the lowest threshold at which the share of scores at or above it is within a budget.

    A model that meets other patients, or other habits of charting, shifts its scores; a threshold
    that was made elsewhere then gives other numbers of alerts. The order of scores suffers less,
    so a site sets its threshold from its own first weeks, for which it needs no label.

    Args:
        score: (N,) finite, one for each patient-hour, of all patients or a fair sample of them.
        share: of the patient-hours that may be at or above the threshold, above 0, up to 1.

    Raises:
        ValueError: there is no score, or the share is not of that range.

    >>> score = np.array([0.1, 0.2, 0.3, 0.3, 0.9])
    >>> [threshold_within(score, share) for share in (0.2, 0.4, 0.6, 1.0)]
    [0.9, 0.9, 0.3, 0.1]
    >>> threshold_within(score, 0.1) > 0.9
    True
    """
    if not len(score) or not 0 < share <= 1:
        raise ValueError("a budget needs scores, and a share above 0 and up to 1")
    allowed = math.floor(share * len(score) + 1e-9)  # 0.07 * 100 is a hair above 7, or below
    ranked = np.sort(score)
    # Scores as low as the first that is not allowed are not allowed either.
    first = 0
    if allowed < len(score):
        first = int(np.searchsorted(ranked, ranked[-allowed - 1], side="right"))
    return float(ranked[first] if first < len(ranked) else np.nextafter(ranked[-1], np.inf))
