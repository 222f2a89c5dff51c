"""Recorded stays as another hospital would have charted them."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.vitals import VARIABLE_INDEX, VITALS
from services.training.charting import last_known
from services.training.source import TIME_COLUMNS, Stays

_BEDSIDE: Final = len(VITALS)
"""The bedside vital signs are the first of the variables, laboratory values the rest."""

_DAY_H: Final = 24
_ROUND_H: Final = 4
_POINTS: Final = 0.2  # of DBP's hours, charted less or more
_HALF: Final = 0.5


class Changed(NamedTuple):
    """What has become of R rows: stays, and (R,) which of the rows are left of them."""

    stays: Stays
    kept: NDArray[np.bool_]


Change = Callable[[Stays, np.random.Generator], Changed]


def labs_halved(stays: Stays, random: np.random.Generator) -> Changed:
    """Every laboratory value is lost with a chance of one half."""
    values = stays.values.copy()
    values[:, _BEDSIDE:][random.random(values[:, _BEDSIDE:].shape) < _HALF] = np.nan
    return _with(stays, values)


def vitals_doubled(stays: Stays, _: np.random.Generator) -> Changed:
    """Each vital sign is charted again, unchanged, half-way to its next value.

    What is charted every hour stays: the features count hours, not values.
    """
    values = stays.values.copy()
    ends = np.repeat(stays.starts[1:], np.diff(stays.starts))
    for column in range(_BEDSIDE):
        row = np.flatnonzero(~np.isnan(values[:, column]))
        following = np.minimum(np.append(row[1:], len(values)), ends[row])
        gap = following - row > 1
        middle = (row + (following - row) // 2)[gap]
        values[middle, column] = values[row[gap], column]
    return _with(stays, values)


def vitals_halved(stays: Stays, _: np.random.Generator) -> Changed:
    """Every second value of each vital sign is not charted."""
    values = stays.values.copy()
    bedside = values[:, :_BEDSIDE]
    measured = ~np.isnan(bedside)
    first = np.repeat(stays.starts[:-1], np.diff(stays.starts))
    total = np.cumsum(measured, axis=0)
    number = total - total[first] + measured[first]
    bedside[measured & (number % 2 == 0)] = np.nan
    return _with(stays, values)


def clock_later(stays: Stays, _: np.random.Generator) -> Changed:
    """ICULOS counts from a day earlier."""
    context = stays.context.copy()
    context[:, TIME_COLUMNS.index("ICULOS")] += _DAY_H
    return Changed(stays._replace(context=context), np.ones(len(stays.hour), np.bool_))


def first_day_unseen(stays: Stays, _: np.random.Generator) -> Changed:
    """The feed of each patient starts 24 h late: what came before is not known."""
    kept = stays.hour >= _DAY_H
    length = np.add.reduceat(kept, stays.starts[:-1], dtype=np.int64)
    left = stays.only(length > 0)
    late = left.hour >= _DAY_H
    starts = np.append(0, np.cumsum(length[length > 0]))
    hour = left.hour[late]
    rows = {
        name: getattr(left, name)[late] for name in ("values", "age", "sex", "label", "context")
    }
    hour = hour - np.repeat(hour[starts[:-1]], np.diff(starts))
    return Changed(left._replace(starts=starts, hour=hour, **rows), kept)


def diastolic_rarer(stays: Stays, random: np.random.Generator) -> Changed:
    """DBP is missing in 20 of 100 more hours."""
    values = stays.values.copy()
    column = values[:, VARIABLE_INDEX["DBP"]]
    measured = float(np.mean(~np.isnan(column)))
    column[random.random(len(column)) * measured < _POINTS] = np.nan
    return _with(stays, values)


def diastolic_oftener(stays: Stays, random: np.random.Generator) -> Changed:
    """DBP is charted in up to 20 of 100 more hours, as the last value that is known."""
    values = stays.values.copy()
    column = values[:, VARIABLE_INDEX["DBP"]]
    empty = np.isnan(column)
    filled = empty & (random.random(len(column)) * float(np.mean(empty)) < _POINTS)
    column[filled] = last_known(stays, column[:, None])[filled, 0]
    return _with(stays, values)


def temperature_in_rounds(stays: Stays, _: np.random.Generator) -> Changed:
    """Temp is charted every fourth hour alone: the last value since the round before."""
    values = stays.values.copy()
    column = values[:, VARIABLE_INDEX["Temp"]]
    window = [_shifted(stays, column, hours) for hours in range(_ROUND_H)]
    latest = window[-1]
    for value in reversed(window[:-1]):
        latest = np.where(np.isnan(value), latest, value)
    column[:] = np.where(stays.hour % _ROUND_H == 0, latest, np.nan)
    return _with(stays, values)


CHANGES: Final[dict[str, Change]] = {
    "half of the labs missing": labs_halved,
    "vitals charted twice as often": vitals_doubled,
    "vitals charted half as often": vitals_halved,
    "ICULOS + 24 h": clock_later,
    "first 24 h not seen": first_day_unseen,
    "DBP missing 20 points more": diastolic_rarer,
    "DBP missing 20 points less": diastolic_oftener,
    "Temp every 4 h": temperature_in_rounds,
}


def _with(stays: Stays, values: NDArray[np.float32]) -> Changed:
    return Changed(stays._replace(values=values), np.ones(len(stays.hour), np.bool_))


def _shifted(stays: Stays, column: NDArray[np.float32], hours: int) -> NDArray[np.float32]:
    """The value so many rows earlier in the same stay, else NaN."""
    row = np.arange(len(column)) - hours
    first = np.repeat(stays.starts[:-1], np.diff(stays.starts))
    return np.where(row >= first, column[np.maximum(row, 0)], np.float32(np.nan))
