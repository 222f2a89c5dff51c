"""What the model sees of a patient: one computation for training and for serving.

Features live on the hour grid: the UTC hours of `measured_at`. A row is a patient as of one
hour. Each row is computed by itself, by loops in a fixed order (`rows`), so its bits do not depend
on which other rows are in its batch.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.features.catalog import FEATURES, Feature
from services.core.features.grid import (
    CHANGES_H,
    HISTORY_HOURS,
    TREND_VARIABLES,
    WINDOWS_H,
    HourGrid,
    Standing,
)
from services.core.features.rows import CELLS, write_rows
from services.core.vitals import VARIABLES

__all__ = [
    "CELLS",
    "CHANGES_H",
    "FEATURES",
    "HISTORY_HOURS",
    "TREND_VARIABLES",
    "WINDOWS_H",
    "Feature",
    "HourGrid",
    "Standing",
    "compute",
    "standing_of",
]

_MANY: Final = len(VARIABLES)


def compute(grid: HourGrid, standing: Standing) -> NDArray[np.float32]:
    """Features of N patients, (N, len(FEATURES)) float32, NaN where there is nothing to say.

    Inputs are rounded to float32 on entry. Within a window each hour weighs 1 however often it
    was charted. Over the hours of the window that have a measurement, with m their hourly means
    in float32 at t = -23 ... 0 h: lowest and highest of all values; mean of m;
    slope = (n Σtm - Σt Σm) / (n Σt² - (Σt)²) per hour, NaN below two hours; hours = n.
    `deviation` is the last value minus the 24 h mean. `change` over k hours is the last value
    minus the last value as it stood k hours earlier, within the grid.

    The bits of a row are the same in a batch of any size and composition.
    """
    rows = np.empty((len(standing.last), len(FEATURES)), np.float32)
    rows[:, :_MANY] = standing.last
    rows[:, _MANY : 2 * _MANY] = standing.last_age_h
    rows[:, 2 * _MANY : 3 * _MANY] = standing.count
    person = np.stack([standing.age, standing.sex], axis=1, dtype=np.float32, casting="same_kind")
    cells = np.stack(grid, axis=2, dtype=np.float32, casting="same_kind")
    write_rows(cells, person, rows)
    return rows


def standing_of(rows: NDArray[np.float32]) -> Standing:
    """Give the standing columns of (N, len(FEATURES)) rows, seen and not copied."""
    last, age_h, count = (rows[:, part * _MANY : (part + 1) * _MANY] for part in range(3))
    return Standing(last, age_h, count, age=rows[:, -2], sex=rows[:, -1])
