"""LOINC codes: which variable they mean, in which category, with which units."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from services.core.terminology.table import Row, Sheet, overlaid
from services.core.terminology.variables import Variable

TABLE: Final = "codes.csv"
COLUMNS: Final = ("loinc", "variable", "category", "units", "meaning")
CATEGORIES: Final = ("", "vital-signs", "laboratory")
PANEL: Final = -1
"""In the place of a variable: the code stands for a group, and its components are read."""
NOT_OURS: Final = -2
"""In the place of a variable: the code is known, and is easily mistaken for one of ours."""
_LOINC: Final = re.compile(r"[0-9]{1,7}-[0-9]")
_WORDS: Final = {"panel": PANEL, "-": NOT_OURS}


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """What a code means when an Observation has a category; an empty category is any."""

    variable: int
    category: str
    units: frozenset[str]
    """Units that may come with it; empty is all that the variable knows."""


Codes = Mapping[str, tuple[Meaning, ...]]


def is_loinc(code: str) -> bool:
    """Say whether a text is a LOINC code, by its form and its check digit (mod 10).

    >>> is_loinc("8867-4"), is_loinc("8867-5"), is_loinc("heart rate")
    (True, False, False)
    """
    if not _LOINC.fullmatch(code):
        return False
    digits = [int(digit) for digit in code[-3::-1]]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[::2]]
    return (sum(doubled) + sum(digits[1::2]) + int(code[-1])) % 10 == 0


def parse_codes(
    sheet: Sheet, variables: tuple[Variable, ...], units: Mapping[int | None, AbstractSet[str]]
) -> Codes:
    """Read `codes.csv`; a code has one row, or one for each of several categories.

    A site's rows for a code replace all that it had.

    Args:
        sheet: the table.
        variables: of the model.
        units: per variable those that convert to its own.

    Raises:
        BadRow: a code with a wrong check digit, an unknown variable or category, two rows for the
            same category, a unit that its variable does not know, or a variable without any code.
    """
    indices = {**{variable.name: variable.index for variable in variables}, **_WORDS}
    table: dict[str, tuple[Meaning, ...]] = {}
    for row in overlaid(sheet, COLUMNS, ("loinc",)):
        code, meaning = row.text("loinc"), _meaning(row, indices)
        strange = meaning.units - units.get(meaning.variable, frozenset())
        if strange:
            row.refuse(f"units.csv converts no {min(strange)} to this variable")
        others = table.get(code, ())
        if any("" in (meaning.category, other.category) for other in others):
            row.refuse("a second row for this code needs a category in both")
        table[code] = (*others, meaning)
    named = {meaning.variable for meanings in table.values() for meaning in meanings}
    for variable in variables:
        if variable.index not in named:
            Row(TABLE, 1, {}).refuse(f"{variable.name} has no code")
    return table


def _meaning(row: Row, indices: Mapping[str, int]) -> Meaning:
    if not is_loinc(row.text("loinc")):
        row.refuse("no LOINC code: form or check digit is wrong")
    if row.text("variable") not in indices:
        row.refuse("no such variable")
    if row.cells["category"] not in CATEGORIES:
        row.refuse("the category is vital-signs, laboratory or empty")
    return Meaning(
        variable=indices[row.cells["variable"]],
        category=row.cells["category"],
        units=frozenset(row.cells["units"].split()),
    )
