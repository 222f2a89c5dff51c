"""Names of FHIR's resource types: what is told about a resource that is not read."""

from typing import Final

from services.core.terminology.table import Sheet, rows

TABLE: Final = "resources.csv"
COLUMNS: Final = ("resource",)


def parse_resources(sheet: Sheet) -> frozenset[str]:
    """Read `resources.csv`; a site cannot extend FHIR.

    Raises:
        BadRow: a name is none.
    """
    names = set()
    for row in rows(TABLE, sheet.text, COLUMNS):
        name = row.text("resource")
        names.add(name if name.isalpha() and name.isascii() else row.refuse("no resource type"))
    return frozenset(names)
