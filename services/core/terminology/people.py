"""Codes about people: race, ethnicity, payer, sex at birth as the words that name cohorts."""

from collections.abc import Mapping
from typing import Final

from services.core.terminology.table import Sheet, overlaid

TABLE: Final = "people.csv"
COLUMNS: Final = ("dimension", "system", "code", "label", "meaning")
DIMENSIONS: Final = ("race", "ethnicity", "payer", "birth_sex")

PeopleCodes = Mapping[tuple[str, str, str], str]
"""From (dimension, system, code) to the word for it."""


def parse_people(sheet: Sheet) -> PeopleCodes:
    """Read `people.csv`; a row of the site replaces that of the same code.

    Raises:
        BadRow: an unknown dimension, or a second row for a code.
    """
    table: dict[tuple[str, str, str], str] = {}
    for row in overlaid(sheet, COLUMNS, ("dimension", "system", "code")):
        key = (row.text("dimension"), row.text("system"), row.text("code"))
        if key[0] not in DIMENSIONS:
            row.refuse(f"the dimension is one of {', '.join(DIMENSIONS)}")
        if key in table:
            row.refuse("a second row for this code")
        table[key] = row.text("label")
    return table
