"""What the model sees of a patient: one computation for training and for serving.

Features live on the hour grid: the UTC hours of `measured_at`. A row is a patient as of one
hour. Every operation here is elementwise or folds the hours in a fixed order, so a row's bits do
not depend on which other rows are in its batch.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.vitals import UNITS, VARIABLE_INDEX, VARIABLES, VITALS

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
        Feature(
            f"{name}_{kind}_{window}h",
            unit.get(kind, "{}").format(UNITS[name]),
            kind,
            name,
            window,
        )
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

    Inputs are rounded to float32 on entry. Within a window each hour weighs 1 however often it
    was charted. Over the hours of the window that have a measurement, with m their hourly means
    at t = -23 ... 0 h: lowest and highest of all values; mean of m;
    slope = (n Σtm - Σt Σm) / (n Σt² - (Σt)²) per hour, NaN below two hours; hours = n.
    `deviation` is the last value minus the 24 h mean. `change` over k hours is the last value
    minus the last value as it stood k hours earlier, within the grid.

    The bits of a row are the same in a batch of any size and composition.
    """
    grid = HourGrid(*(array.astype(np.float32, copy=False) for array in grid))
    standing = Standing(*(array.astype(np.float32, copy=False) for array in standing))
    last = standing.last[:, _TREND].astype(np.float64)
    lowest = _over_windows(np.fmin, grid.lowest)
    highest = _over_windows(np.fmax, grid.highest)
    trends = _trends(grid, last)
    columns = [standing.last, standing.last_age_h, standing.count]
    for low, high, trend in zip(lowest, highest, trends, strict=True):
        columns += [low, high, *trend]
    columns.append(last - trends[-1][0])
    columns += [last - _as_it_stood(grid, hours) for hours in CHANGES_H]
    columns += _derived(standing, lowest[-1])
    columns += [standing.age[:, None], standing.sex[:, None]]
    return np.concatenate(columns, axis=1, dtype=np.float32, casting="same_kind")


def _trends(grid: HourGrid, last: Float64) -> list[tuple[Float64, Float64, Float64]]:
    """Mean, slope and measured hours, each (N, V), for every window."""
    measured = grid.count > 0
    sums = np.empty((5, *measured.shape))
    sums[0] = measured
    sums[1] = measured * _HOUR
    sums[2] = sums[1] * _HOUR
    # Distances from the last value: a flat course has slope 0 and not its rounding errors.
    distance = np.divide(grid.total, np.maximum(grid.count, 1), dtype=np.float64)
    sums[3] = np.where(measured, distance - last[:, None, :], 0.0)
    sums[4] = sums[3] * _HOUR
    return [_trend(window, last) for window in _over_windows(np.add, sums)]


def _trend(window: Float64, last: Float64) -> tuple[Float64, Float64, Float64]:
    hours, sum_t, sum_tt, sum_y, sum_ty = window
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = last + sum_y / hours
        slope = (hours * sum_ty - sum_t * sum_y) / (hours * sum_tt - sum_t * sum_t)
    return np.where(hours > 0, mean, np.nan), np.where(hours > 1, slope, np.nan), hours


def _over_windows(fold: np.ufunc, values: Floats) -> list[Any]:
    """Fold (…, 24, V) over the last 6, 12 and 24 hours, always in the same order."""
    blocks = values.reshape(*values.shape[:-2], 4, 6, values.shape[-1])
    pairs = fold(blocks[..., :3, :], blocks[..., 3:, :])
    block = fold(fold(pairs[..., 0, :], pairs[..., 1, :]), pairs[..., 2, :])
    six = block[..., 3, :]
    twelve = fold(six, block[..., 2, :])
    return [six, twelve, fold(twelve, fold(block[..., 1, :], block[..., 0, :]))]


def _as_it_stood(grid: HourGrid, hours: int) -> Floats:
    """The last value as it stood some hours earlier, (N, V), NaN if the grid has none."""
    places = np.arange(1, HISTORY_HOURS - hours + 1)[:, None]
    latest = np.max((grid.count[:, :-hours] > 0) * places, axis=1, keepdims=True)
    found = np.take_along_axis(grid.last, np.maximum(latest - 1, 0), axis=1)
    return np.where(latest > 0, found, np.nan)[:, 0]


def _derived(standing: Standing, lowest_24h: Floats) -> list[Floats]:
    """The columns of `_DERIVED`, each (N, 1)."""
    value = {name: standing.last[:, i] for name, i in VARIABLE_INDEX.items()}
    oxygen = _ratio(value["O2Sat"], value["FiO2"])
    sofa = _sofa(value, oxygen, lowest_24h[:, TREND_VARIABLES.index("MAP")])
    age_h = standing.last_age_h
    columns = [
        _ratio(value["HR"], value["SBP"]),
        _ratio(value["HR"], value["MAP"]),
        value["SBP"] - value["DBP"],
        oxygen,
        _ratio(value["BUN"], value["Creatinine"]),
        _sirs_met(value),
        _met(np.greater_equal(value["Resp"], 22), np.less_equal(value["SBP"], 100)),
        *sofa,
        sum(np.nan_to_num(term) for term in sofa),
        np.less(age_h[:, : len(VITALS)], 1).sum(axis=1),
        np.less(age_h[:, len(VITALS) :], 6).sum(axis=1),
        np.less(age_h[:, len(VITALS) :], 24).sum(axis=1),
    ]
    return [column[:, None] for column in columns]


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _sirs_met(value: dict[str, Floats]) -> Floats:
    """SIRS criteria met (Bone et al., Chest 1992;101:1644); what is unknown is not met."""
    temperature, white_cells = value["Temp"], value["WBC"]
    return _met(
        np.greater(temperature, 38) | np.less(temperature, 36),
        np.greater(value["HR"], 90),
        np.greater(value["Resp"], 20) | np.less(value["PaCO2"], 32),
        np.greater(white_cells, 12) | np.less(white_cells, 4),
    )


def _met(*criteria: NDArray[np.bool_]) -> Floats:
    """How many criteria each row meets."""
    met: Floats = np.stack(criteria, axis=1).sum(axis=1, dtype=np.float32)
    return met


def _sofa(value: dict[str, Floats], oxygen: Floats, map_24h: Floats) -> list[Floats]:
    """SOFA terms that the variables allow, NaN where unknown: lungs to kidney.

    Vincent et al., Intensive Care Med 1996;22:707; SpO2/FiO2 in place of PaO2/FiO2 after
    Pandharipande et al., Crit Care Med 2009;37:1317. The circulation counts low pressure alone
    (0 or 1): doses of vasopressors are not among the variables.
    """
    return [
        _points(np.less, oxygen, (512, 357, 214, 89)),
        _points(np.less, value["Platelets"], (150, 100, 50, 20)),
        _points(np.greater_equal, value["Bilirubin_total"], (1.2, 2, 6, 12)),
        _points(np.less, map_24h, (70,)),
        _points(np.greater_equal, value["Creatinine"], (1.2, 2, 3.5, 5)),
    ]


def _points(passes: np.ufunc, values: Floats, bounds: tuple[float, ...]) -> Floats:
    """How many bounds each value passes, NaN where the value is unknown."""
    passed = passes(values[:, None], np.array(bounds, np.float32)).sum(axis=1)
    return np.where(np.isnan(values), np.nan, passed)
