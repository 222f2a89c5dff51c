"""What was stated live, held against what comes out when it is computed anew."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from services.core.events import Measurement
from services.core.windows import Window
from services.monitoring.revisions import GONE

TOLERANCE: Final = 1e-9
"""How far two numbers may lie apart, relative and absolute; whole ones not at all."""
STATEMENT: Final = "statement"
"""Stands for the field where one side says nothing at all."""

Cell = float | str | None
Key = tuple[str, str, str, str, int, int]
_NAME: Final = ("metric", "feature", "cohort", "unit_of_analysis", "start", "end")
_SAID: Final = tuple(n for n in Measurement.__struct_fields__ if n not in (*_NAME, "revision"))


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One number or word that is not the same on both sides."""

    metric: str
    feature: str
    cohort: str
    unit_of_analysis: str
    start: int
    end: int
    field: str
    live: Cell
    recomputed: Cell


def within(statements: Iterable[Measurement], windows: Sequence[Window]) -> list[Measurement]:
    """Give the statements about these windows, without those that were taken back.

    Whether a statement that is gone was ever made depends on which partition came first.
    """
    wanted = set(windows)
    return [s for s in statements if s.why != GONE and Window(s.start, s.end) in wanted]


def latest(statements: Iterable[Measurement]) -> dict[Key, Measurement]:
    """Give of each statement its highest revision; of two that are equal the later."""
    found: dict[Key, Measurement] = {}
    for statement in statements:
        before = found.get(key_of(statement))
        if before is None or statement.revision >= before.revision:
            found[key_of(statement)] = statement
    return found


def key_of(statement: Measurement) -> Key:
    """Name what a statement is about."""
    s = statement
    return s.metric, s.feature, s.cohort, s.unit_of_analysis, s.start, s.end


def differences(
    live: Iterable[Measurement], recomputed: Iterable[Measurement]
) -> Iterator[Difference]:
    """Hold the latest statements of two sides against each other; revisions may differ."""
    one, other = latest(live), latest(recomputed)
    for key in sorted(one.keys() | other.keys(), key=lambda key: (key[4], key)):
        for field, a, b in _cells(one.get(key), other.get(key)):
            yield _difference(key, field, a, b)


def same(one: Cell, other: Cell) -> bool:
    """Tell whether two numbers or words are the same.

    >>> same(0.1 + 0.2, 0.3), same(41, 42), same(41.0, 41.0 + 1e-10), same(None, 0.0)
    (True, False, True, False)
    """
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return one == other
    if float(one).is_integer() and float(other).is_integer():
        return one == other
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _cells(
    live: Measurement | None, recomputed: Measurement | None
) -> Iterator[tuple[str, Cell, Cell]]:
    if live is None or recomputed is None:
        yield STATEMENT, _standing(live), _standing(recomputed)
        return
    for field in _SAID:
        one, other = _cell(live, field), _cell(recomputed, field)
        if not same(one, other):
            yield field, one, other


def _standing(statement: Measurement | None) -> str:
    return "missing" if statement is None else str(statement.state)


def _cell(statement: Measurement, field: str) -> Cell:
    value = getattr(statement, field)
    return value if value is None or isinstance(value, int | float) else str(value)


def _difference(key: Key, field: str, live: Cell, recomputed: Cell) -> Difference:
    metric, feature, cohort, unit, start, end = key
    return Difference(
        metric=metric,
        feature=feature,
        cohort=cohort,
        unit_of_analysis=unit,
        start=start,
        end=end,
        field=field,
        live=live,
        recomputed=recomputed,
    )
