"""Recorded stays on the hour grid, so that training computes the very features of serving."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.features import (
    FEATURES,
    HISTORY_HOURS,
    TREND_VARIABLES,
    HourGrid,
    Standing,
    compute,
)
from services.core.vitals import VARIABLE_INDEX
from services.training.source import Stays

_TREND: Final = [VARIABLE_INDEX[name] for name in TREND_VARIABLES]
_CHUNK: Final = 8192


def matrix(stays: Stays) -> NDArray[np.float32]:
    """Features of every row, (R, len(FEATURES))."""
    features = np.empty((len(stays.hour), len(FEATURES)), np.float32)
    row = 0
    for grid, standing in batches(stays):
        chunk = compute(grid, standing)
        features[row : row + len(chunk)] = chunk
        row += len(chunk)
    return features


def batches(stays: Stays, size: int = _CHUNK) -> Iterator[tuple[HourGrid, Standing]]:
    """The inputs of `compute` for all rows, in order, `size` rows at a time."""
    track, place = _track(stays)
    standing = _standing(stays)
    window = np.arange(1 - HISTORY_HOURS, 1)
    for start in range(0, len(place), size):
        rows = slice(start, start + size)
        yield (
            _grid(track[place[rows, None] + window]),
            Standing(*(array[rows] for array in standing)),
        )


def _track(stays: Stays) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Every patient's hours, each behind 23 empty ones, and the place of each row on them."""
    last_hours = stays.hour[stays.starts[1:] - 1]
    ends = np.cumsum(last_hours + HISTORY_HOURS)
    place = stays.hour + np.repeat(ends - last_hours - 1, np.diff(stays.starts))
    track = np.full((ends[-1], len(_TREND)), np.nan, np.float32)
    track[place] = stays.values[:, _TREND]
    return track, place


def _grid(values: NDArray[np.float32]) -> HourGrid:
    """The grid of hours with at most one value each, (N, 24, V)."""
    count = (~np.isnan(values)).astype(np.float32)
    return HourGrid(count, np.nan_to_num(values), values, values, values)


def _standing(stays: Stays) -> Standing:
    """What stands at each row: a running last value, its hour and a running count per patient."""
    measured = ~np.isnan(stays.values)
    rows = np.arange(len(measured))[:, None]
    first = np.repeat(stays.starts[:-1], np.diff(stays.starts))
    latest = np.maximum.accumulate(np.where(measured, rows, -1), axis=0)
    known = latest >= first[:, None]
    age_h = stays.hour[:, None] - stays.hour[latest]
    total = np.cumsum(measured, axis=0)
    before = total[first] - measured[first]
    return Standing(
        last=np.where(known, np.take_along_axis(stays.values, latest, axis=0), np.nan),
        last_age_h=np.where(known, age_h, np.nan).astype(np.float32),
        count=(total - before).astype(np.float32),
        age=stays.age,
        sex=stays.sex,
    )
