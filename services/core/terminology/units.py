"""UCUM units as they arrive, and what turns them into the model's."""

from collections.abc import Mapping
from typing import Final

import msgspec

from services.core.terminology.table import Row, Sheet, overlaid
from services.core.terminology.variables import Variable

TABLE: Final = "units.csv"
COLUMNS: Final = ("variable", "unit", "add", "multiply", "divide", "mistaken_upto", "note")
NO_VARIABLE: Final = "-"
"""Stands for the variable of a unit that is known and converts to none of ours."""


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """How a number in one unit becomes the model's: (number + add) x multiply / divide."""

    unit: str
    add: float = 0.0
    multiply: float = 1.0
    divide: float = 1.0
    mistaken_upto: float = 0.0
    """A number above 0 and up to this was meant in another unit: 0.97 is no percentage."""

    @property
    def changes(self) -> bool:
        """Whether numbers change at all."""
        return (self.add, self.multiply, self.divide) != (0.0, 1.0, 1.0)

    def apply(self, number: float) -> float:
        """Convert a number to the model's unit.

        >>> Conversion(unit="[degF]", add=-32, multiply=5, divide=9).apply(98.6)
        37.0
        """
        return (number + self.add) * self.multiply / self.divide


Conversions = Mapping[str, Conversion]
"""From a unit to its conversion, for one variable."""


def parse_units(sheet: Sheet, variables: tuple[Variable, ...]) -> dict[int | None, Conversions]:
    """Read `units.csv`: per variable (None for NO_VARIABLE) every unit that is known.

    A row of the site replaces that of the same variable and unit.

    Raises:
        BadRow: an unknown variable, a second row for a unit, a number that is none, or a variable
            whose own unit is missing.
    """
    indices: dict[str, int | None] = {variable.name: variable.index for variable in variables}
    indices[NO_VARIABLE] = None
    table: dict[int | None, dict[str, Conversion]] = {index: {} for index in indices.values()}
    for row in overlaid(sheet, COLUMNS, ("variable", "unit")):
        name, unit = row.text("variable"), row.text("unit")
        if name not in indices:
            row.refuse("no such variable")
        if unit in table[indices[name]]:
            row.refuse("a second row for this unit")
        table[indices[name]][unit] = _conversion(row)
    for variable in variables:
        own = table[variable.index].get(variable.unit)
        if own is None or own.changes:
            Row(TABLE, 1, {}).refuse(f"{variable.name} has no row for {variable.unit} itself")
    return dict(table)


def _conversion(row: Row) -> Conversion:
    conversion = Conversion(
        unit=row.text("unit"),
        add=row.number("add", 0.0),
        multiply=row.number("multiply", 1.0),
        divide=row.number("divide", 1.0),
        mistaken_upto=row.number("mistaken_upto", 0.0),
    )
    if conversion.multiply <= 0 or conversion.divide <= 0:
        row.refuse("multiply and divide must be greater than 0")
    return conversion
