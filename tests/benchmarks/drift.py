"""How often drift is called where there is none, and found where there is: docs/drift.md.

Recorded patients (devA, where it is there) and simulated ones; each half makes a reference, the
other half the windows, split by a hash of the id before bins are made. 24-h windows, 400 a cell.
Takes about two minutes.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from report import line
from scipy.special import kolmogorov  # type: ignore[import-untyped]  # it ships no types

from services.core.baseline import EVERYBODY, PRESENCE, VITAL_FEATURES, CohortReference
from services.core.freeze import PatientHours, Period, freeze
from services.core.stats.drawing import DRAWS, Column, Hours, placed, spread
from services.core.stats.drift import SMALLEST_K, Summary, bin_of, compare, holm, psi
from services.core.stats.sketches import decile_edges
from services.core.vitals import VITALS
from services.ingest.tables import read_terminology
from services.local.home import REPO
from services.simulator.unchanged import unchanged
from services.training.source import read

WINDOW_H: Final = 24
COUNTED: Final = (20, 40, 100)
SIZES: Final = (20, 40, 60, 100, 200)
SIMULATED: Final = 6000
DEV_A: Final = REPO.parent / "shared" / "data" / "physionet2019" / "devA.parquet"
HR, TEMP, MAP, RESP = (VITALS.index(name) for name in ("HR", "Temp", "MAP", "Resp"))

Values = npt.NDArray[np.float64]
Chance = np.random.Generator


class Row(NamedTuple):
    """One change: what it does to patient-hours, and what is asked of us.

    Attributes:
        name: for people.
        change: of values, by chance, knowing the share of hours without Resp.
        counted: the vital sign of which K patients have an hour.
        bar: at so many patients `watch` in at least so many windows; None: of no drift.
    """

    name: str
    change: Callable[[Values, Chance, float], Values]
    counted: int
    bar: tuple[int, float] | None


class Source(NamedTuple):
    """A population: its two halves, and the share of its hours that lacks Resp."""

    name: str
    reference: PatientHours
    tested: PatientHours
    without_resp: float


class Called(NamedTuple):
    """Shares of windows in which something was called."""

    watch: float
    alarm: float
    row_ks: float
    row_psi: float


def _lower(values: Values, _chance: Chance, _missing: float) -> Values:
    values[:, MAP] -= 8
    return values


def _warmer(values: Values, chance: Chance, _missing: float) -> Values:
    values[chance.random(len(values)) < 0.3, TEMP] += 1.0
    return values


def _unbreathed(values: Values, chance: Chance, missing: float) -> Values:
    values[chance.random(len(values)) < missing / (1 - missing), RESP] = np.nan
    return values


def _uncharted(values: Values, chance: Chance, _missing: float) -> Values:
    values[chance.random(len(values)) < 0.5, TEMP] = np.nan
    return values


ROWS: Final = (
    Row("no drift", lambda values, _chance, _missing: values, HR, None),
    Row("MAP -8 mm[Hg]", _lower, MAP, (40, 0.85)),
    Row("30 % of temperatures +1.0 Cel", _warmer, TEMP, (100, 0.85)),
    Row("Resp missing twice as often", _unbreathed, HR, (100, 0.85)),
    Row("half of the temperatures not charted", _uncharted, HR, (40, 0.90)),
)


def _half(given: PatientHours, ids: list[str], *, odd: bool) -> PatientHours:
    member = np.array([hashlib.sha256(name.encode()).digest()[0] % 2 == odd for name in ids])
    rows = member[given.patient]
    patient = (np.cumsum(member) - 1)[given.patient[rows]]
    # Each in a unit of its own: none is large enough for a reference of its own.
    units = [str(number) for number in range(np.count_nonzero(member))]
    return PatientHours(patient, given.hour[rows], given.values[rows], units)


def _recorded() -> Source:
    stays = read(DEV_A)
    charted = ~np.isnan(stays.values).all(axis=1)
    values = stays.values[charted][:, : len(VITALS)].astype(np.float64)
    given = PatientHours(stays.patient[charted], stays.hour[charted], values, [])
    whole = float(np.isnan(stays.values[:, RESP]).mean())
    ids = list(stays.ids)
    return Source("devA", _half(given, ids, odd=False), _half(given, ids, odd=True), whole)


def _simulated() -> Source:
    terminology = read_terminology(REPO / "schemas" / "terminology")
    given = unchanged(np.random.default_rng(11), terminology, stays=SIMULATED)
    ids = [str(number) for number in range(SIMULATED)]
    missing = float(np.isnan(given.values[:, RESP]).mean())
    return Source("simulated", _half(given, ids, odd=False), _half(given, ids, odd=True), missing)


def _windows(
    chance: Chance, tested: PatientHours, counted: int, patients: int
) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
    """Rounds of windows of stays in a drawn order, each stay cut once and in one window at most.

    A window is full when so many of its patients have an hour of the counted vital sign.
    """
    while True:
        held = placed(chance, Hours(tested.patient, tested.hour), WINDOW_H)
        has = held & ~np.isnan(tested.values[:, counted])
        counts = np.bincount(tested.patient[has], minlength=len(tested.units)) > 0
        order = chance.permutation(len(tested.units))
        window = np.empty(len(order), np.int64)
        window[order] = (np.cumsum(counts[order]) - counts[order]) // patients
        window[window == window.max()] = -1  # the last one may not be full
        yield held, window


def _columns(values: Values, reference: CohortReference) -> Iterator[tuple[str, Column]]:
    for name in VITAL_FEATURES:
        vital = values[:, VITALS.index(name.removesuffix(PRESENCE))]
        known = reference.features.get(name)
        if known and name.endswith(PRESENCE):
            yield name, Column((~np.isnan(vital)).astype(np.int64), 2, (~np.isnan(vital)) * 1.0)
        elif known:
            place = np.where(np.isnan(vital), -1, bin_of(vital, known.edges))
            yield name, Column(place, len(known.edges) + 1, vital)


def _p_values(
    columns: dict[str, Column], reference: CohortReference, held: Any, tested: Any, window: Any
) -> npt.NDArray[np.float64]:
    """Corrected p of every feature of every window, (windows, features)."""
    number = int(window.max()) + 1
    found = np.ones((number, len(reference.features)))
    inside = window >= 0
    for at, (name, column) in enumerate(columns.items()):
        cut = column._replace(place=np.where(held, column.place, -1))
        each = spread(cut, tested.patient, len(tested.units))[inside]
        total = np.zeros((number, each.shape[1]))
        np.add.at(total, window[inside], each)
        patients = np.bincount(window[inside], each[:, :-1].sum(axis=1) > 0.5, number)
        known = reference.features[name]
        for place in np.flatnonzero(patients >= SMALLEST_K):
            many = int(patients[place])
            summary = Summary(total[place, :-1].tolist(), total[place, -1] / many, many)
            found[place, at] = compare(known.summary, summary, known.nulls).p
    return np.array([holm(row.tolist()) for row in found])


class Usual:
    """The usual way: every row counts, whoever's it is; on the values of each vital sign."""

    def __init__(self, reference: PatientHours) -> None:
        rows = [column[~np.isnan(column)] for column in reference.values.T]
        self._rows = [np.sort(column) for column in rows if len(column)]
        self._places = [place for place, column in enumerate(rows) if len(column)]
        self._grids = [np.unique(column) for column in self._rows]
        self._cdfs = [cdf(*each) for each in zip(self._rows, self._grids, strict=True)]
        self._edges = [decile_edges(column.astype(np.float32)) for column in self._rows]

    def called(self, values: Values) -> tuple[bool, bool]:
        """Whether KS at p < .05 fires on at least one of them, and whether PSI > 0.2 does."""
        by_ks = by_psi = False
        for at, place in enumerate(self._places):
            own = np.sort(values[~np.isnan(values[:, place]), place])
            if len(own):
                by_ks |= self._ks(at, own) < 0.05
                edges, rows = self._edges[at], (self._rows[at], own)
                by_psi |= float(psi(*(histogram(row, edges) for row in rows))) > 0.2
        return by_ks, by_psi

    def _ks(self, at: int, own: Values) -> float:
        """Asymptotic p of the two-sample test; the steps of both are looked at."""
        rows, grid = self._rows[at], self._grids[at]
        most = max(
            np.max(np.abs(cdf(own, grid) - self._cdfs[at])),
            np.max(np.abs(cdf(own, own) - cdf(rows, own))),
        )
        return float(kolmogorov(np.sqrt(len(rows) * len(own) / (len(rows) + len(own))) * most))


def cdf(ordered: Values, at: Values) -> Values:
    return np.asarray(np.searchsorted(ordered, at, side="right") / len(ordered))


def histogram(ordered: Values, edges: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    ends = np.searchsorted(ordered.astype(np.float32), edges, side="right")
    return np.diff(ends, prepend=0, append=len(ordered))


def cell(
    source: Source, row: Row, patients: int, *, reference: CohortReference, usual: Usual, many: int
) -> Called:
    """Call drift in so many windows, by our way and by the usual ones."""
    chance = np.random.default_rng([patients, len(row.name)])
    tested, rounds, found = source.tested, [], 0
    fired = []
    for held, window in _windows(chance, tested, row.counted, patients):
        window[window >= many - found] = -1
        values = row.change(tested.values.copy(), chance, source.without_resp)
        columns = dict(_columns(values, reference))
        rounds.append(_p_values(columns, reference, held, tested, window))
        fired += list(_usual(usual, values, held, window[tested.patient]))
        found += len(rounds[-1])
        if found >= many:
            break
    least = np.concatenate(rounds).min(axis=1)
    shares = np.mean(fired, axis=0)
    return Called(*(float(x) for x in (*(np.mean(least <= p) for p in (0.05, 0.01)), *shares)))


def _usual(usual: Usual, values: Values, held: Any, window: Any) -> Iterator[tuple[bool, bool]]:
    rows = np.flatnonzero(held & (window >= 0))
    rows = rows[np.argsort(window[rows], kind="stable")]
    for part in np.split(rows, np.flatnonzero(np.diff(window[rows])) + 1):
        yield usual.called(values[part])


def measured(source: Source, many: int, draws: int) -> dict[str, dict[str, Called]]:
    """Every cell of the table, row by row."""
    period = Period(source.name)
    chance = np.random.default_rng(1)
    reference = freeze(chance, source.reference, period, sizes=SIZES, draws=draws)
    usual = Usual(source.reference)
    return {
        row.name: {
            str(patients): cell(
                source,
                row,
                patients,
                reference=reference.cohorts[EVERYBODY],
                usual=usual,
                many=many,
            )
            for patients in COUNTED
        }
        for row in ROWS
    }


def reached(row: Row, cells: dict[str, Called]) -> bool:
    """Whether a row comes to what is asked of it."""
    if row.bar is None:
        return all(each.watch <= 0.08 and each.alarm <= 0.02 for each in cells.values())
    return cells[str(row.bar[0])].watch >= row.bar[1]


def tell(name: str, table: dict[str, dict[str, Called]]) -> None:
    print(f"\n{name}: watch/alarm (row-level KS p < .05 | PSI > 0.2)", file=sys.stderr)
    heads = "".join(f"{f'K = {patients}':>24}" for patients in COUNTED)
    print(f"{'':<38}{heads}   to reach", file=sys.stderr)
    for row in ROWS:
        cells = table[row.name]
        told = "".join(
            f"{f'{c.watch:.2f}/{c.alarm:.2f} ({c.row_ks:.2f} | {c.row_psi:.2f})':>24}"
            for c in cells.values()
        )
        asked = f">= {row.bar[1]:.2f} at K = {row.bar[0]}" if row.bar else "<= 0.08/0.02"
        mark = "" if reached(row, cells) else "  NOT REACHED"
        print(f"{row.name:<38}{told}   {asked}{mark}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=400, help="a cell")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of each null")
    asked = parser.parse_args()
    began = time.monotonic()
    sources = [_recorded()] if DEV_A.exists() else []
    tables = {}
    for source in [*sources, _simulated()]:
        tables[source.name] = measured(source, asked.windows, asked.draws)
        tell(source.name, tables[source.name])
    missed = [
        f"{name}: {row.name}"
        for name, table in tables.items()
        for row in ROWS
        if not reached(row, table[row.name])
    ]
    figures = {
        name: {row: {k: c._asdict() for k, c in cells.items()} for row, cells in table.items()}
        for name, table in tables.items()
    }
    seconds = round(time.monotonic() - began, 1)
    more = {"windows": asked.windows, "draws": asked.draws, "seconds": seconds}
    print(line("drift", figures, {}, missed=missed, recorded=bool(sources), **more))


if __name__ == "__main__":
    main()
