"""Rows of a CSV table, each with its line, so that a bad one is refused by name."""

import csv
import math
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn

import msgspec

SITE: Final = "site"
"""What the name of a table begins with where a site's own rows are meant."""


class BadRow(ValueError):  # noqa: N818 - it names what was found
    """A row of a table cannot be used; the text names the file, the line and what is wrong."""


class Row(msgspec.Struct, frozen=True):
    """One row of a table."""

    table: str
    line: int
    cells: Mapping[str, str]

    def refuse(self, why: str) -> NoReturn:
        """Refuse this row.

        Raises:
            BadRow: always.
        """
        raise BadRow(f"{self.table} line {self.line}: {why}")

    def text(self, column: str) -> str:
        """Give a cell that must not be empty; raises BadRow."""
        return self.cells[column] or self.refuse(f"{column} is empty")

    def number(self, column: str, default: float) -> float:
        """Give a cell as a finite number, or the default if it is empty; raises BadRow."""
        text = self.cells[column]
        try:
            number = float(text) if text else default
        except ValueError:
            self.refuse(f"{column} is no number")
        return (
            number if not text or math.isfinite(number) else self.refuse(f"{column} is infinite")
        )


class Sheet(msgspec.Struct, frozen=True):
    """A table as files hold it."""

    name: str
    text: str
    """CSV with a header line."""
    site: str | None = None
    """The site's own rows, with the same header; None where it has none."""


def rows(table: str, text: str, columns: tuple[str, ...]) -> Iterator[Row]:
    r"""Read the rows of a table.

    Args:
        table: its name, for errors.
        text: CSV with a header line.
        columns: the header it must have, in order.

    Raises:
        BadRow: the header is another one, or a row has too few or too many cells.

    >>> [row.cells["b"] for row in rows("t.csv", "a,b\n1,2\n", ("a", "b"))]
    ['2']
    """
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        if tuple(next(reader, [])) != columns:
            raise BadRow(f"{table} line 1: the columns must be {','.join(columns)}")
        for cells in reader:
            row = Row(table, reader.line_num, dict(zip(columns, cells, strict=False)))
            if len(cells) != len(columns):
                row.refuse(f"{len(cells)} cells instead of {len(columns)}")
            yield row
    except csv.Error as error:
        raise BadRow(f"{table} line {reader.line_num}: {error}") from None


def overlaid(sheet: Sheet, columns: tuple[str, ...], key: tuple[str, ...]) -> list[Row]:
    r"""Read the rows of a table and of a site's own, which stand before those of the same key.

    A site's rows take the place of the first row that they replace; what is new comes last.

    Args:
        sheet: the table.
        columns: the header of both, in order.
        key: the columns by which a row of the site replaces rows of the table.

    Raises:
        BadRow: as `rows`; a row of the site is named `site/<table>`.

    >>> sheet = Sheet("t", "a,b\n1,2\n3,4", "a,b\n3,5")
    >>> [row.table for row in overlaid(sheet, ("a", "b"), ("a",))]
    ['t', 'site/t']
    """
    shipped: dict[tuple[str, ...], list[Row]] = {}
    for text, label in ((sheet.text, sheet.name), (sheet.site, f"{SITE}/{sheet.name}")):
        found: dict[tuple[str, ...], list[Row]] = {}
        for row in rows(label, text, columns) if text is not None else ():
            found.setdefault(tuple(row.cells[column] for column in key), []).append(row)
        shipped |= found
    return [row for group in shipped.values() for row in group]
