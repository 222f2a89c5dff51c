"""Ranges of the model's variables: what is possible, and what is usual."""

import math
from typing import Final

import msgspec

from services.core.terminology.table import Row, Sheet, overlaid
from services.core.vitals import UNITS, VARIABLES

TABLE: Final = "variables.csv"
COLUMNS: Final = (
    *("variable", "unit", "possible_low", "possible_high", "usual_low", "usual_high", "note"),
)
_ABOVE: Final = ">"


class Bounds(msgspec.Struct, frozen=True):
    """A range of numbers, bounds included unless `open_below`."""

    low: float
    high: float
    open_below: bool = False

    def holds(self, value: float) -> bool:
        """Say whether a value lies in the range; NaN lies in none."""
        if self.open_below and value == self.low:
            return False
        return self.low <= value <= self.high


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A variable of the model; ranges are in its unit."""

    index: int
    """Place in `core.vitals.VARIABLES`."""
    name: str
    unit: str
    possible: Bounds
    """A value outside is refused."""
    usual: Bounds
    """A value outside is kept and flagged, and not used by the model."""


def parse_variables(sheet: Sheet) -> tuple[Variable, ...]:
    """Read `variables.csv`: one row per variable, in the order of `core.vitals.VARIABLES`.

    A row of the site replaces that of the same variable: a site may move its ranges, and has to
    answer for it. An empty bound is none, or for the usual range the possible one; `>0` leaves 0
    itself out.

    Raises:
        BadRow: a variable is missing, misplaced or unknown, or has a unit or range that is wrong.
    """
    told = overlaid(sheet, COLUMNS, ("variable",))
    found = [_variable(row, index) for index, row in enumerate(told)]
    if len(found) != len(VARIABLES):
        Row(TABLE, len(found) + 1, {}).refuse(f"{len(found)} rows instead of {len(VARIABLES)}")
    return tuple(found)


def _variable(row: Row, index: int) -> Variable:
    name = row.text("variable")
    if index >= len(VARIABLES) or name != VARIABLES[index]:
        row.refuse("not the variable that core/vitals.py has in this place")
    if row.text("unit") != UNITS[name]:
        row.refuse(f"the model reads {name} in {UNITS[name]}")
    possible = _bounds(row, "possible", Bounds(-math.inf, math.inf))
    usual = _bounds(row, "usual", possible)
    if usual.low < possible.low or usual.high > possible.high:
        row.refuse("the usual range reaches beyond the possible one")
    return Variable(index=index, name=name, unit=UNITS[name], possible=possible, usual=usual)


def _bounds(row: Row, which: str, default: Bounds) -> Bounds:
    low = row.cells[f"{which}_low"]
    trimmed = msgspec.structs.replace(
        row, cells={**row.cells, f"{which}_low": low.removeprefix(_ABOVE)}
    )
    bounds = Bounds(
        trimmed.number(f"{which}_low", default.low),
        row.number(f"{which}_high", default.high),
        open_below=low.startswith(_ABOVE) or (not low and default.open_below),
    )
    return bounds if bounds.low <= bounds.high else row.refuse(f"the {which} range is empty")
