"""Makes a baseline of the patient-hours of a period: bins, histograms and nulls, then frozen."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.baseline import (
    EVERYBODY,
    PRESENCE,
    PRESENCE_EDGES,
    SMALLEST_COHORT,
    Baseline,
    CohortReference,
    FeatureReference,
)
from services.core.stats.drawing import (
    DRAWS,
    REACH,
    SIZES,
    Column,
    Hours,
    draw_nulls,
    placed,
    spread,
)
from services.core.stats.drift import SMALLEST_K, bin_of
from services.core.stats.nulls import Null
from services.core.stats.sketches import SMALLEST_CELL, decile_edges, shown_edges
from services.core.vitals import VITALS

_FEWEST_BINS: Final = 3
_PLACED: Final = 20
_RARE: Final = 0.01
"""Presence that fewer patients than this share ever have, or ever lack, is no feature: psi would
jump from one possible value to the next, and no null between two sizes can follow it."""


class PatientHours(NamedTuple):
    """What was measured in a period, by patient and UTC hour.

    A row is an hour in which at least one of the 34 variables was measured.

    Attributes:
        patient: (R,) 0 to P - 1, not falling, none left out.
        hour: (R,) hours since the epoch, rising within a patient.
        values: (R, 8) the last value of each of VITALS measured in the hour; NaN for none.
        units: (P,) each patient's care unit.
    """

    patient: NDArray[np.int64]
    hour: NDArray[np.int64]
    values: NDArray[np.float64]
    units: Sequence[str]


class Period(NamedTuple):
    """What a baseline says of its origin; times in µs, None for simulated stays."""

    name: str
    start: int | None = None
    end: int | None = None
    kind: Literal["site", "training"] = "site"


def freeze(
    rng: np.random.Generator,
    given: PatientHours,
    period: Period,
    *,
    window_h: int = 24,
    sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
) -> Baseline:
    """Make the baseline of a period; takes half a minute for 2,000 stays.

    Args:
        rng: draws the nulls.
        given: at least SMALLEST_COHORT patients.
        period: its name and limits.
        window_h: length of the windows to be judged.
        sizes: numbers of patients to draw.
        draws: windows to draw, each.

    Raises:
        ValueError: there are fewer patients.
    """
    groups = list(_groups(given))
    if not groups:
        raise ValueError(f"a baseline takes {SMALLEST_COHORT} patients or more")
    cohorts = {
        name: _cohort(rng, members, window_h=window_h, sizes=sizes, draws=draws)
        for name, members in groups
    }
    return Baseline(**period._asdict(), window_h=window_h, cohorts=cohorts)


def _groups(given: PatientHours) -> Iterator[tuple[str, PatientHours]]:
    """Everybody, then each unit; those that are too small are left out."""
    units = np.asarray(given.units)
    everybody = np.ones(len(units), np.bool_)
    named = [(EVERYBODY, everybody)] + [(f"unit={u}", units == u) for u in np.unique(units)]
    for name, member in named:
        if np.count_nonzero(member) >= SMALLEST_COHORT:
            yield name, _of(given, member)


def _of(given: PatientHours, member: NDArray[np.bool_]) -> PatientHours:
    rows = member[given.patient]
    number = np.cumsum(member) - 1
    return PatientHours(
        number[given.patient[rows]],
        given.hour[rows],
        given.values[rows],
        np.asarray(given.units)[member].tolist(),
    )


def _cohort(
    rng: np.random.Generator,
    given: PatientHours,
    *,
    window_h: int,
    sizes: Sequence[int],
    draws: int,
) -> CohortReference:
    features = dict(_features(given))
    hours = Hours(given.patient, given.hour)
    columns = [column for column, _ in features.values()]
    nulls = draw_nulls(rng, hours, columns, window_h=window_h, sizes=sizes, draws=draws)
    return CohortReference(
        patients=len(given.units),
        hours=len(given.hour),
        window_hours=_window_hours(rng, hours, window_h),
        features={
            name: _reference(column, edges, given, null)
            for (name, (column, edges)), null in zip(features.items(), nulls, strict=True)
        },
    )


def _window_hours(rng: np.random.Generator, hours: Hours, window_h: int) -> float:
    """Hours of a patient in a window, on average over windows and patients."""
    held = [np.count_nonzero(placed(rng, hours, window_h)) for _ in range(_PLACED)]
    return round(float(np.mean(held)) / (int(hours.patient[-1]) + 1), 3)


def _features(given: PatientHours) -> Iterator[tuple[str, tuple[Column, tuple[float, ...]]]]:
    """Each feature that enough patients have, with its bins; values first, as in the family."""
    for name, value in zip(VITALS, given.values.T, strict=True):
        measured = ~np.isnan(value)
        if _patients(given, measured) >= REACH * SMALLEST_K:
            edges = _edges(value[measured].astype(np.float32), given.patient[measured])
            place = np.where(measured, bin_of(value, edges), -1)
            yield name, (Column(place, len(edges) + 1, value), edges)
    for name, value in zip(VITALS, given.values.T, strict=True):
        measured = ~np.isnan(value)
        enough = max(SMALLEST_CELL, _RARE * len(given.units))
        if min(_patients(given, measured), _patients(given, ~measured)) >= enough:
            present = measured.astype(np.int64)
            yield name + PRESENCE, (Column(present, 2, present * 1.0), PRESENCE_EDGES)


def _patients(given: PatientHours, rows: NDArray[np.bool_]) -> int:
    return len(np.unique(given.patient[rows]))


def _edges(values: NDArray[np.float32], patient: NDArray[np.int64]) -> tuple[float, ...]:
    """Unique deciles; every value its own bin where they leave fewer than three.

    Bins with fewer than SMALLEST_CELL patients are joined.
    """
    edges = decile_edges(values)
    if len(edges) + 1 < _FEWEST_BINS:
        edges = np.unique(values)[:-1]
    shown = shown_edges(values, patient, edges).astype(np.float32)
    # The shortest decimals that round to these float32: 36.7, not 36.70000076.
    return tuple(float(str(edge)) for edge in shown)


def _reference(
    column: Column, edges: tuple[float, ...], given: PatientHours, nulls: tuple[Null, ...]
) -> FeatureReference:
    by_patient = spread(column, given.patient, len(given.units))
    weights = by_patient[:, : column.bins]
    had = weights.sum(axis=1) > 0
    means = by_patient[had, -1]
    return FeatureReference(
        edges=edges,
        weights=tuple(round(float(weight), 6) for weight in weights.sum(axis=0)),
        patients=int(np.count_nonzero(had)),
        mean=float(f"{means.mean():.9g}"),
        sd=float(f"{means.std(ddof=1):.6g}"),
        nulls=nulls,
    )
