"""How sure a number is: score intervals for shares, the bootstrap by patient for the rest."""

import hashlib
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

REPLICATES: Final = 200
"""Bootstrap replicates; each patient's weight in each is a function of the patient alone."""

_Z_95: Final = 1.959963984540054
_CUMULATIVE: Final = np.cumsum(np.exp(-1) / np.cumprod([1, *range(1, 16)]))


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """95 % score interval of a share (Wilson, J Am Stat Assoc 1927;22:209-212).

    >>> [round(bound, 4) for bound in wilson(8, 10)]
    [0.4902, 0.9433]
    >>> wilson(0, 0)
    (0.0, 1.0)
    """
    if trials <= 0:
        return 0.0, 1.0
    share, square = successes / trials, _Z_95 * _Z_95
    center = share + square / (2 * trials)
    spread = _Z_95 * (share * (1 - share) / trials + square / (4 * trials * trials)) ** 0.5
    whole = 1 + square / trials
    return max(0.0, (center - spread) / whole), min(1.0, (center + spread) / whole)


def median_ranks(count: int) -> tuple[int, int, int]:
    """Ranks, from 1, of the lower bound of the median, the median, and its upper bound.

    The interval covers the median with 95 % at least, whatever the distribution (Campbell and
    Gardner, BMJ 1988;296:1454-1456, rounded outwards); of too few values it is all of them. The
    median of an even number is the lower of the two in the middle.

    Args:
        count: of values, at least 1.

    >>> median_ranks(100)
    (40, 50, 61)
    """
    spread = _Z_95 * count**0.5 / 2
    low, high = math.floor(count / 2 - spread), math.ceil(1 + count / 2 + spread)
    return max(1, low), (count + 1) // 2, min(count, high)


def poisson_weights(ids: Sequence[bytes], replicates: int = REPLICATES) -> NDArray[np.uint8]:
    """Poisson(1) weights of patients in each replicate, (P, replicates).

    The weight comes from SHA-256(id ‖ replicate as 4 bytes, big-endian), so summaries made apart
    can be merged replicate by replicate, and the interval is the same every time.

    Args:
        ids: one per patient, such as the pseudonym.
        replicates: how many.
    """
    counters = [number.to_bytes(4, "big") for number in range(replicates)]
    raw = b"".join(hashlib.sha256(each + n).digest()[:8] for each in ids for n in counters)
    uniform = np.frombuffer(raw, ">u8").reshape(len(ids), replicates) / 2.0**64
    return np.searchsorted(_CUMULATIVE, uniform, side="right").astype(np.uint8)


def percentile(estimates: NDArray[np.floating]) -> tuple[float, float]:
    """95 % percentile interval from bootstrap estimates; NaN ones are left out.

    >>> percentile(np.arange(201.0))
    (5.0, 195.0)
    """
    low, high = np.nanpercentile(estimates, [2.5, 97.5])
    return float(low), float(high)
