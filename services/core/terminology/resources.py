"""Names of FHIR's resource types: what is told about a resource that is not read."""

from typing import Final

from services.core.terminology.table import rows

TABLE: Final = "resources.csv"
COLUMNS: Final = ("resource",)


def parse_resources(text: str) -> frozenset[str]:
    """Read `resources.csv`.

    Raises:
        BadRow: a name is none.
    """
    names = set()
    for row in rows(TABLE, text, COLUMNS):
        name = row.text("resource")
        names.add(name if name.isalpha() and name.isascii() else row.refuse("no resource type"))
    return frozenset(names)
