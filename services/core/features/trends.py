"""Extremes, mean, slope and change of the trend variables over the windows of the grid."""

from typing import Final

import numpy as np

from services.core.features.grid import HISTORY_HOURS, WINDOWS_H, Floats, HourGrid

_HOUR: Final = np.arange(1.0 - HISTORY_HOURS, 1.0)
# Per window 1, t and t² of its hours, 0 before it: (windows · 3, 24).
_MOMENTS: Final = np.concatenate(
    [_HOUR ** np.arange(3)[:, None] * (-w < _HOUR) for w in WINDOWS_H]
)


def trends_of(grid: HourGrid, last: Floats) -> tuple[Floats, Floats]:
    """Lowest, highest, mean, slope, hours, (N, windows, 5, V); last minus 24 h mean, (N, V)."""
    rows, _, variables = grid.count.shape
    trends: Floats = np.empty((rows, len(WINDOWS_H), 5, variables), np.float32)
    for window, extremes in enumerate(_over_windows(np.fmin, grid.lowest)):
        trends[:, window, 0] = extremes
    for window, extremes in enumerate(_over_windows(np.fmax, grid.highest)):
        trends[:, window, 1] = extremes
    base = np.nan_to_num(last)[:, None]
    hours, sum_t, sum_tt, sum_y, sum_ty = _moments(grid, base)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = sum_y / hours
        slope = (hours * sum_ty - sum_t * sum_y) / (hours * sum_tt - sum_t * sum_t)
    distance = np.where(hours > 0, distance, np.nan)
    trends[:, :, 2] = base + distance
    trends[:, :, 3] = np.where(hours > 1, slope + 0.0, np.nan)  # + 0.0: no negative zero
    trends[:, :, 4] = hours
    return trends, 0.0 - distance[:, -1]


def _moments(grid: HourGrid, base: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Σ1, Σt, Σt², Σy, Σty over the measured hours of each window, (N, windows, V) each.

    y is the distance of the hour's mean, rounded to float32, from the base. As differences of
    float32 numbers of a vital sign's size, y and its sums are exact in float64: no order of
    adding changes them, and a flat course has slope 0.
    """
    measured = (grid.count > 0).astype(np.float32)
    distance = (grid.total / np.maximum(grid.count, 1)).astype(np.float64)
    distance -= base
    distance *= measured
    # One small matrix product per row, so the other rows of the batch cannot change its bits.
    ones, t, tt = _side_by_side(_MOMENTS.astype(np.float32) @ measured)
    y, ty, _ = _side_by_side(_MOMENTS @ distance)
    return ones, t, tt, y, ty


def _side_by_side(sums: Floats) -> Floats:
    """From (N, windows · 3, V) to three blocks of memory, (3, N, windows, V)."""
    split = sums.reshape(len(sums), len(WINDOWS_H), 3, -1)
    return np.moveaxis(split, 2, 0).copy()


def _over_windows(fold: np.ufunc, values: Floats) -> list[Floats]:
    """Fold (N, 24, V) over the last 6, 12 and 24 hours; NaN is skipped by fmin and fmax."""
    blocks = values.reshape(len(values), 4, 6, values.shape[-1])
    pairs = fold(blocks[:, :, :3], blocks[:, :, 3:])
    block = fold(fold(pairs[:, :, 0], pairs[:, :, 1]), pairs[:, :, 2])
    twelve = fold(block[:, 3], block[:, 2])
    return [block[:, 3], twelve, fold(twelve, fold(block[:, 1], block[:, 0]))]


def as_it_stood(grid: HourGrid, hours: int) -> Floats:
    """The last value as it stood some hours earlier, (N, V), NaN if the grid has none."""
    places = np.arange(1, HISTORY_HOURS - hours + 1, dtype=np.int8)[:, None]
    latest = np.max((grid.count[:, :-hours] > 0) * places, axis=1)
    row, variable = np.ogrid[: len(latest), : latest.shape[1]]
    # Place 0 says never: the hour it points to is empty then, and NaN.
    stood: Floats = grid.last[row, np.maximum(latest - 1, 0), variable]
    return stood
