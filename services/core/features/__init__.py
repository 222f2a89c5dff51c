"""What the model sees of a patient: one computation for training and for serving.

Features live on the hour grid: the UTC hours of `measured_at`. A row is a patient as of one
hour. Every operation is elementwise, exact, or folds the hours of one row in a fixed order, so a
row's bits do not depend on which other rows are in its batch.
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
from services.core.features.scores import derived_from
from services.core.features.trends import as_it_stood, trends_of
from services.core.vitals import VARIABLE_INDEX

__all__ = [
    "CHANGES_H",
    "FEATURES",
    "HISTORY_HOURS",
    "TREND_VARIABLES",
    "WINDOWS_H",
    "Feature",
    "HourGrid",
    "Standing",
    "compute",
]

_TREND: Final = np.array([VARIABLE_INDEX[name] for name in TREND_VARIABLES])


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
    grid = HourGrid(*(array.astype(np.float32, copy=False) for array in grid))
    standing = Standing(*(array.astype(np.float32, copy=False) for array in standing))
    rows = len(standing.last)
    last = standing.last[:, _TREND]
    trends, deviation = trends_of(grid, last)
    lowest_24h = trends[:, -1, 0]
    columns = [standing.last, standing.last_age_h, standing.count]
    columns += [trends.reshape(rows, -1), deviation]
    columns += [last - as_it_stood(grid, hours) for hours in CHANGES_H]
    columns += derived_from(standing, lowest_24h[:, TREND_VARIABLES.index("MAP")])
    columns += [standing.age[:, None], standing.sex[:, None]]
    return np.concatenate(columns, axis=1, dtype=np.float32, casting="same_kind")
