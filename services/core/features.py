"""What the model sees of a patient: one computation for training and for serving.

Features live on the hour grid: the UTC hours of `measured_at`. A row is a patient as of one
hour. Every operation here is elementwise or folds the hours in a fixed order, so a row's bits do
not depend on which other rows are in its batch.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.vitals import LABS, UNITS, VARIABLE_INDEX, VARIABLES, VITALS

HISTORY_HOURS: Final = 24
"""Hours of history on the grid; a value that arrives later than this no longer changes it."""

WINDOWS_H: Final = (6, 12, 24)
"""Windows of the trend features, each ending with the hour of the row."""

CHANGES_H: Final = (1, 6)
"""How far back `change` looks."""

TREND_VARIABLES: Final = VITALS
"""Variables whose hours are kept on the grid; the others have their last value, age, count."""

Floats = NDArray[np.floating]
Float64 = NDArray[np.float64]


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

    count: Floats
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
    count: Floats
    age: Floats
    sex: Floats


class Feature(NamedTuple):
    """One column of the model's input.

    Attributes:
        name: such as `HR_slope_6h`.
        unit: UCUM; `1` for a ratio, a score or a number of things.
        kind: last, age, count, lowest, highest, mean, slope, hours, deviation, change, derived
            or static.
        variable: the measured variable, or None when it is made of several.
        window_h: hours it looks back, or None.
    """

    name: str
    unit: str
    kind: str
    variable: str | None = None
    window_h: int | None = None


_DERIVED: Final = (
    Feature("shock_index", "1", "derived"),
    Feature("modified_shock_index", "1", "derived"),
    Feature("pulse_pressure", "mm[Hg]", "derived"),
    Feature("spo2_fio2", "%", "derived"),
    Feature("bun_creatinine", "1", "derived"),
    Feature("sirs_met", "1", "derived"),
    Feature("qsofa_partial", "1", "derived"),
    Feature("sofa_respiration", "1", "derived"),
    Feature("sofa_coagulation", "1", "derived"),
    Feature("sofa_liver", "1", "derived"),
    Feature("sofa_cardiovascular", "1", "derived"),
    Feature("sofa_renal", "1", "derived"),
    Feature("sofa_partial", "1", "derived"),
    Feature("vitals_this_hour", "1", "derived"),
    Feature("labs_6h", "1", "derived"),
    Feature("labs_24h", "1", "derived"),
)


def _standing_features() -> list[Feature]:
    return (
        [Feature(f"{name}_last", UNITS[name], "last", name) for name in VARIABLES]
        + [Feature(f"{name}_age", "h", "age", name) for name in VARIABLES]
        + [Feature(f"{name}_count", "1", "count", name) for name in VARIABLES]
    )


def _trend_features() -> list[Feature]:
    kinds = ("lowest", "highest", "mean", "slope", "hours")
    unit = {"slope": "{}/h", "hours": "h"}
    return [
        Feature(f"{name}_{kind}_{window}h", unit.get(kind, "{}").format(UNITS[name]), kind, name, window)
        for window in WINDOWS_H
        for kind in kinds
        for name in TREND_VARIABLES
    ]


def _shift_features() -> list[Feature]:
    return [
        Feature(f"{name}_deviation_24h", UNITS[name], "deviation", name, HISTORY_HOURS)
        for name in TREND_VARIABLES
    ] + [
        Feature(f"{name}_change_{hours}h", UNITS[name], "change", name, hours)
        for hours in CHANGES_H
        for name in TREND_VARIABLES
    ]


FEATURES: Final = (
    *_standing_features(),
    *_trend_features(),
    *_shift_features(),
    *_DERIVED,
    Feature("age", "a", "static"),
    Feature("sex", "1", "static"),
)
"""Every feature in the order of the columns of `compute`."""

_TREND: Final = np.array([VARIABLE_INDEX[name] for name in TREND_VARIABLES])
_HOUR: Final = np.arange(1.0 - HISTORY_HOURS, 1.0)[:, None]


def compute(grid: HourGrid, standing: Standing) -> NDArray[np.float32]:
    """Features of N patients, (N, len(FEATURES)) float32, NaN where there is nothing to say.

    Within a window each hour weighs 1 however often it was charted. Over the hours of the window
    that have a measurement, with m their hourly means at t = −23 … 0 h: lowest and highest of all
    values; mean of m; slope = (n Σtm − Σt Σm) / (n Σt² − (Σt)²) per hour, NaN below two hours;
    hours = n. `deviation` is the last value minus the 24 h mean. `change` over k hours is the
    last value minus the last value as it stood k hours earlier, within the grid.

    The bits of a row are the same in a batch of any size and composition.
    """
    last = standing.last[:, _TREND].astype(np.float64)
    lowest = _over_windows(np.fmin, grid.lowest)
    trends = _trends(grid, last)
    columns: list[Floats] = [standing.last, standing.last_age_h, standing.count]
    for index, (mean, slope, hours) in enumerate(trends):
        highest = _over_windows(np.fmax, grid.highest)[index]
        columns += [lowest[index], highest, mean, slope, hours]
    columns.append(last - trends[-1][0])
    columns += [last - _as_it_stood(grid, hours) for hours in CHANGES_H]
    columns += _derived(standing, lowest[-1])
    columns += [standing.age[:, None], standing.sex[:, None]]
    return np.concatenate(columns, axis=1, dtype=np.float32, casting="unsafe")
