"""The hour grid: what is known of patients, as arrays, from which features are computed."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.vitals import VITALS

HISTORY_HOURS: Final = 24
"""Hours of history on the grid; a value that arrives later than this no longer changes it."""

WINDOWS_H: Final = (6, 12, 24)
"""Windows of the trend features, each ending with the hour of the row."""

CHANGES_H: Final = (1, 6)
"""How far back `change` looks."""

TREND_VARIABLES: Final = VITALS
"""Variables whose hours are kept on the grid; the others have their last value, age, count."""

Floats = NDArray[np.floating]


class HourGrid(NamedTuple):
    """The last 24 hours of N patients; V = len(TREND_VARIABLES), hours from oldest to newest.

    Index 23 of the hour axis is the UTC hour of the row's `as_of`. Float32 or float64.

    Attributes:
        count: (N, 24, V) measurements in that hour, 0 for none.
        total: (N, 24, V) their sum, 0 where none.
        lowest: (N, 24, V) their minimum, NaN where none.
        highest: (N, 24, V) their maximum, NaN where none.
        last: (N, 24, V) the latest of them, NaN where none.
    """

    count: Floats  # type: ignore[assignment]  # stands over tuple.count, unused
    total: Floats
    lowest: Floats
    highest: Floats
    last: Floats


class Standing(NamedTuple):
    """What reaches further back than the grid, for N patients; V = len(VARIABLES).

    Attributes:
        last: (N, V) last value of the encounter up to the hour of the row, NaN if never.
        last_age_h: (N, V) hour of the row minus hour of that value, NaN if never.
        count: (N, V) hours of the encounter with a measurement. Several values in one hour count
            once: the training data are hourly, and a bedside monitor is no longer stay.
        age: (N,) years, NaN if unknown.
        sex: (N,) 0 female, 1 male, NaN if unknown.
    """

    last: Floats
    last_age_h: Floats
    count: Floats  # type: ignore[assignment]  # as in HourGrid
    age: Floats
    sex: Floats
