"""Differences of shares between groups of patients, and what they are allowed to say."""

from statistics import NormalDist
from typing import Final, Literal, NamedTuple

MARGIN: Final = 0.05
"""A difference that is smaller either way is taken for none."""
LEVEL: Final = 0.95
"""Of all intervals of one dimension together."""

Gate = Literal["pass", "fail", "insufficient"]


class Share(NamedTuple):
    """So many of so many patients."""

    successes: int
    trials: int


class Difference(NamedTuple):
    """One share less another, with its interval."""

    value: float
    low: float
    high: float


def simultaneous(comparisons: int, level: float = LEVEL) -> float:
    """Level of each of several intervals that hold together at `level` (Bonferroni).

    >>> round(simultaneous(5), 4)
    0.99
    """
    return 1 - (1 - level) / max(comparisons, 1)


def score_interval(share: Share, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a share (Wilson, J Am Stat Assoc 1927;22:209-212); of nobody: 0 to 1.

    >>> [round(bound, 4) for bound in score_interval(Share(8, 10))]
    [0.4902, 0.9433]
    """
    if share.trials <= 0:
        return 0.0, 1.0
    square = NormalDist().inv_cdf((1 + level) / 2) ** 2
    part, trials = share.successes / share.trials, share.trials
    center = part + square / (2 * trials)
    spread = (square * (part * (1 - part) / trials + square / (4 * trials * trials))) ** 0.5
    whole = 1 + square / trials
    return max(0.0, (center - spread) / whole), min(1.0, (center + spread) / whole)


def difference(share: Share, reference: Share, level: float = LEVEL) -> Difference:
    """Difference of two shares of different patients; Newcombe's hybrid score interval.

    Method 10 of Newcombe, Stat Med 1998;17:873-890.

    Args:
        share: of the group; at least one patient.
        reference: of the group that it is held against; at least one patient.
        level: of the interval.

    >>> [round(each, 4) for each in difference(Share(56, 70), Share(48, 80))]
    [0.2, 0.0524, 0.3339]
    """
    one, other = share.successes / share.trials, reference.successes / reference.trials
    one_low, one_high = score_interval(share, level)
    other_low, other_high = score_interval(reference, level)
    below = ((one - one_low) ** 2 + (other_high - other) ** 2) ** 0.5
    above = ((one_high - one) ** 2 + (other - other_low) ** 2) ** 0.5
    return Difference(one - other, one - other - below, one - other + above)


def gate(found: Difference, margin: float = MARGIN) -> Gate:
    """Pass when the whole interval lies within the margin, fail when it lies wholly outside.

    >>> gate(Difference(0.2, 0.08, 0.3)), gate(Difference(0.0, -0.1, 0.1))
    ('fail', 'insufficient')
    """
    if -margin <= found.low and found.high <= margin:
        return "pass"
    return "fail" if found.low > margin or found.high < -margin else "insufficient"
