"""A site's own names for codes and units: what they mean in LOINC and in UCUM."""

from collections.abc import Container, Mapping
from typing import Final

from services.core.terminology.codes import is_loinc
from services.core.terminology.table import Sheet, overlaid

CODES: Final = "local_codes.csv"
UNITS: Final = "local_units.csv"
CODE_COLUMNS: Final = ("system", "code", "loinc", "note")
UNIT_COLUMNS: Final = ("system", "unit", "ucum", "note")
_OFFICIAL: Final = frozenset({"http://loinc.org", "http://unitsofmeasure.org"})

Local = Mapping[tuple[str, str], str]
"""From a system and a name in it to the official one."""


def parse_local_codes(sheet: Sheet) -> Local:
    """Read `local_codes.csv`: per (system, code) the LOINC code that is meant.

    The system is what a Coding names, or of HL7v2 the third part of OBX-3, such as `L`.

    Raises:
        BadRow: the system is LOINC itself, the code has a second row, or what it shall mean is no
            LOINC code.
    """
    table: dict[tuple[str, str], str] = {}
    for row in overlaid(sheet, CODE_COLUMNS, ("system", "code")):
        key, loinc = (row.text("system"), row.text("code")), row.text("loinc")
        if key[0] in _OFFICIAL:
            row.refuse("codes of LOINC belong in codes.csv")
        if key in table:
            row.refuse("a second row for this code")
        if not is_loinc(loinc):
            row.refuse("no LOINC code: form or check digit is wrong")
        table[key] = loinc
    return table


def parse_local_units(sheet: Sheet, known: Container[str]) -> Local:
    """Read `local_units.csv`: per (system, unit) the UCUM code that is meant.

    A system that is empty stands for a unit that is only text, as HL7v2 has it in OBX-6.

    Args:
        sheet: the table.
        known: every unit of `units.csv`.

    Raises:
        BadRow: the system is UCUM itself, the unit has a second row, or `units.csv` does not have
            what it shall mean.
    """
    table: dict[tuple[str, str], str] = {}
    for row in overlaid(sheet, UNIT_COLUMNS, ("system", "unit")):
        key, ucum = (row.cells["system"], row.text("unit")), row.text("ucum")
        if key[0] in _OFFICIAL:
            row.refuse("units of UCUM belong in units.csv")
        if key in table:
            row.refuse("a second row for this unit")
        if ucum not in known:
            row.refuse("units.csv does not have this unit")
        table[key] = ucum
    return table
