"""Draws windows of K patients from a reference, to see what chance alone does to each feature."""

from collections.abc import Iterable, Iterator, Sequence
from math import gcd
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.stats.drift import psi
from services.core.stats.nulls import Null, compress

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SIZES: Final = (20, 40, 60, 100, 200, 400)
"""Numbers of patients for which windows are drawn, as far as the reference reaches."""
DRAWS: Final = 32_000
"""Windows a size: 20 m / alpha for a family of m = 16 at 0.01."""
REACH: Final = 4
"""A size is drawn from a reference of at least so many times as many patients."""
_CUTS: Final = 8
_ROWS: Final = 400_000
"""Stays that are added up at a time: bounds the memory."""


class Hours(NamedTuple):
    """Patient-hours of P patients; the hours of a patient follow each other.

    Attributes:
        patient: (R,) 0 to P - 1, not falling, none left out.
        hour: (R,) UTC hour, rising within a patient.
    """

    patient: Int64
    hour: Int64


class Column(NamedTuple):
    """One feature over patient-hours.

    Attributes:
        place: (R,) bin of the hour's value; -1 where it has none.
        bins: how many there are.
        value: (R,) what the mean is of, anything where place is -1; None for psi alone.
    """

    place: Int64
    bins: int
    value: Float64 | None = None


def spread(column: Column, patient: Int64, patients: int) -> Float64:
    """Each patient's weight by bin, and its mean in the last column if the feature has one.

    Returns:
        (P, bins) or (P, bins + 1); zeros for who has no hour of the feature.
    """
    rows = np.flatnonzero(column.place >= 0)
    who = patient[rows]
    part = 1 / np.bincount(who, minlength=patients)[who]
    place = who * column.bins + column.place[rows]
    flat = np.bincount(place, part, patients * column.bins).astype(np.float64)
    weights = flat.reshape(patients, column.bins)
    if column.value is None:
        return weights
    means = np.bincount(who, part * column.value[rows], patients)
    return np.column_stack([weights, means])


def draw_nulls(
    rng: np.random.Generator,
    hours: Hours,
    columns: Sequence[Column],
    *,
    window_h: int,
    sizes: Iterable[int] = SIZES,
    draws: int = DRAWS,
) -> list[tuple[Null, ...]]:
    """Draw the null of each feature for every number of patients that the reference reaches.

    A draw is K stays without replacement among those that have the feature, each cut to its
    overlap with a window placed uniformly over (-window, length), given an hour of the feature;
    8 cuts a stay are made once. It is held against the reference *without* the drawn stays: a
    real window's patients are not in the reference either, and with them in it chance would look
    too small by (1/K - 1/P) to (1/K + 1/P).

    Args:
        rng: draws everything.
        hours: of the reference.
        columns: its features, in the reference's own bins.
        window_h: length of a window.
        sizes: numbers of patients.
        draws: B, for each feature and size.

    Returns:
        Per column its nulls, rising in patients.
    """
    windows = [placed(rng, hours, window_h) for _ in range(_CUTS)]
    nulls: list[tuple[Null, ...]] = [()] * len(columns)
    for members in _alike(columns):
        chosen = [columns[member] for member in members]
        table = _table(hours, chosen, windows)
        within = [size for size in sorted(sizes) if size * REACH <= len(table.starts) - 1]
        found = [
            [_null(*parts, column, size) for parts, column in zip(drawn, chosen, strict=True)]
            for size, drawn in _windows(rng, table, chosen, within, draws)
        ]
        for place, member in enumerate(members):
            nulls[member] = tuple(row[place] for row in found)
    return nulls


class _Table(NamedTuple):
    """Everything a draw adds up.

    Attributes:
        rows: (C, 2 W) of every cut: the features' spread in it, and in the whole stay.
        starts: (S + 1,) first cut of each stay, and C.
        total: (W,) of the whole reference.
    """

    rows: Float32
    starts: Int64
    total: Float64


def placed(rng: np.random.Generator, hours: Hours, window_h: int) -> NDArray[np.bool_]:
    """Place one window a patient, so that it holds at least an hour; say which rows it holds."""
    patient, hour = hours
    first = hour[np.flatnonzero(np.diff(patient, prepend=-1))]
    last = hour[np.flatnonzero(np.diff(patient, append=patient[-1] + 1))]
    start = rng.integers(first - window_h + 1, last + 1)
    while True:
        held = (hour >= start[patient]) & (hour < start[patient] + window_h)
        empty = np.flatnonzero(np.bincount(patient[held], minlength=len(first)) == 0)
        if not len(empty):
            return np.asarray(held)
        start[empty] = rng.integers(first[empty] - window_h + 1, last[empty] + 1)


def _alike(columns: Sequence[Column]) -> list[list[int]]:
    """Group the columns that have a value in the same hours: they are drawn together."""
    groups: dict[bytes, list[int]] = {}
    for member, column in enumerate(columns):
        groups.setdefault(np.packbits(column.place >= 0).tobytes(), []).append(member)
    return list(groups.values())


def _table(
    hours: Hours, columns: Sequence[Column], windows: Sequence[NDArray[np.bool_]]
) -> _Table:
    patients = int(hours.patient[-1]) + 1
    whole = np.hstack([spread(column, hours.patient, patients) for column in columns])
    stays, rows = [], []
    for held in windows:
        cut = [_only(column, held) for column in columns]
        part = np.hstack([spread(column, hours.patient, patients) for column in cut])
        stay = np.flatnonzero(part[:, : columns[0].bins].sum(axis=1) > 0)
        stays.append(stay)
        rows.append(np.hstack([part, whole])[stay].astype(np.float32))
    stay = np.concatenate(stays)
    order = np.argsort(stay, kind="stable")
    starts = np.flatnonzero(np.diff(stay[order], prepend=-1))
    return _Table(np.concatenate(rows)[order], np.append(starts, len(stay)), whole.sum(axis=0))


def _only(column: Column, held: NDArray[np.bool_]) -> Column:
    return column._replace(place=np.where(held, column.place, -1))


def _windows(
    rng: np.random.Generator,
    table: _Table,
    columns: Sequence[Column],
    sizes: Sequence[int],
    draws: int,
) -> Iterator[tuple[int, Iterator[tuple[Float64, Float64]]]]:
    """Give, for each size, each column's part of the drawn windows and of the rest.

    A shuffled order of all stays, cut into pieces of K, is many draws without replacement at the
    price of one; each piece is a draw like any other. Pieces of a greater K are put together from
    those of a smaller one, so that stays are added up once for all sizes.
    """
    if not sizes:
        return
    step = gcd(*sizes)
    blocks = (len(table.starts) - 1) // step
    orders = {size: -(-draws // (blocks // (size // step))) for size in sizes}
    added = _added(rng, table, step, max(orders.values()))
    ends = np.cumsum([column.bins + (column.value is not None) for column in columns])
    for size in sizes:
        times = size // step
        whole = added[: orders[size], : blocks // times * times]
        sums = whole.reshape(-1, times, whole.shape[-1]).sum(axis=1)[:draws].astype(np.float64)
        window, rest = sums[:, : ends[-1]], table.total - sums[:, ends[-1] :]
        cut = ends[:-1]
        yield size, zip(np.split(window, cut, axis=1), np.split(rest, cut, axis=1), strict=True)


def _added(rng: np.random.Generator, table: _Table, size: int, orders: int) -> Float32:
    """Shuffle the stays so many times, and add up a cut of each stay in every piece of K.

    Returns:
        (orders, S // K, 2 W)
    """
    stays, cuts = len(table.starts) - 1, np.diff(table.starts)
    pieces = stays // size
    added = np.empty((orders, pieces, table.rows.shape[1]), np.float32)
    one, at_once = np.ones((1, size), np.float32), max(1, _ROWS // stays)
    for begun in range(0, orders, at_once):
        part = added[begun : begun + at_once]
        order = rng.permuted(np.tile(np.arange(stays), (len(part), 1)), axis=1)
        stay = order[:, : pieces * size].reshape(-1, size)
        cut = table.starts[stay] + (rng.random(stay.shape) * cuts[stay]).astype(np.int64)
        part[:] = np.matmul(one, table.rows[cut])[:, 0].reshape(part.shape)
    return added


def _null(window: Float64, reference: Float64, column: Column, size: int) -> Null:
    bins = slice(0, column.bins)
    found = compress(psi(reference[:, bins], window[:, bins]))
    if column.value is None:
        return Null(patients=size, draws=len(window), psi=found)
    means = [part[:, -1] / part[:, bins].sum(axis=1) for part in (window, reference)]
    difference = means[0] - means[1]
    center = float(f"{np.median(difference):.6g}")
    beyond = compress(np.abs(difference - center))
    return Null(patients=size, draws=len(window), psi=found, center=center, mean=beyond)
