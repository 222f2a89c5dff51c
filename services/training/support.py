"""Where the training population ends, as the rule by which a model abstains from others."""

import math
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.core.stats.sketches import SMALLEST_CELL
from services.core.support import Limits, Support, outside
from services.core.vitals import VARIABLES
from services.training.matrix import batches
from services.training.source import Stays

RARE: Final = 0.001
"""Share of patients whose values reach the end of a range or beyond, and at most of the hours that
the rule leaves out."""


def support(stays: Stays) -> dict[str, Any]:
    """Describe the population's limits.

    A range ends where fewer than RARE of a variable's patients ever were, SMALLEST_CELL of them
    or more: no end is one patient's value. So many values may lie beyond as is the least with
    which their rule leaves out at most RARE of the hours.
    """
    ends = {name: _ends(stays, place) for place, name in enumerate(VARIABLES)}
    rule = Support(variables={n: found for n, found in ends.items() if found}, most_outside=0)
    while _share(rule, stays) > RARE:
        rule = msgspec.structs.replace(rule, most_outside=rule.most_outside + 1)
    rule = msgspec.structs.replace(rule, youngest=_youngest(stays))
    stated = msgspec.structs.replace(rule, hours_outside=round(_share(rule, stays), 6))
    found: dict[str, Any] = msgspec.to_builtins(stated)
    return found


def _ends(stays: Stays, place: int) -> tuple[float, float] | None:
    """Lowest and highest value of a variable; None of one that too few patients have."""
    values, starts = stays.values[:, place], stays.starts[:-1]
    lows = _known(np.fmin.reduceat(values, starts))
    highs = _known(np.fmax.reduceat(values, starts))
    if len(lows) < SMALLEST_CELL:
        return None
    rank = max(SMALLEST_CELL, math.ceil(RARE * len(lows))) - 1
    return _decimal(lows[rank]), _decimal(highs[len(highs) - 1 - rank])


def _youngest(stays: Stays) -> float | None:
    """Whole years below which fewer than SMALLEST_CELL patients are."""
    ages = _known(stays.age[stays.starts[:-1]])
    return float(math.floor(ages[SMALLEST_CELL - 1])) if len(ages) >= SMALLEST_CELL else None


def _share(rule: Support, stays: Stays) -> float:
    limits = Limits.of(rule)
    beyond = sum(
        int(np.count_nonzero(outside(limits, standing.last, standing.age)))
        for _, standing in batches(stays)
    )
    return beyond / len(stays.hour)


def _known(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sort(values[~np.isnan(values)])


def _decimal(value: np.float32) -> float:
    """The shortest decimal that rounds to this float32, as charted."""
    return float(str(value))
