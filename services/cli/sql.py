"""`vigil sql`: questions to the store that can change nothing."""

import math
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.runtime.clickhouse import ClickHouse

READ_ONLY: Final = {"readonly": 1}
"""The engine itself refuses writes, other settings, and functions that reach files or hosts."""
QUESTIONS: Final = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "EXISTS", "("})
READONLY_CODE: Final = 164
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|`[^`]*`|\"[^\"]*\"")
_REST: Final = re.compile(
    r"\. Expected one of|[.:] In scope |\. \([A-Z_]+\)| \(version | \(for url "
)
_OUTFILE: Final = re.compile(r"\bINTO\s+OUTFILE\b", re.IGNORECASE)


def sql(
    statement: Annotated[str, typer.Argument(help="One statement that asks.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV with a line of names.")] = False,
) -> None:
    """Ask the store. Nothing that writes is carried out."""
    from services.cli.ledger import open_store
    from services.runtime.clickhouse import Rejected

    store = open_store()
    try:
        columns = ask(store, statement)
    except Rejected as error:
        readonly = error.code == READONLY_CODE
        raise CommandError(
            _said(error.text),
            "`vigil sql` only asks" if readonly else "correct the statement",
            Fault.ONLY_ASKS if readonly else Fault.BAD_SQL,
        ) from None
    rows = [[_plain(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    if json:
        _print_json(list(columns), rows)
    elif csv:
        _print_csv(list(columns), rows)
    else:
        _print_table(list(columns), rows)


def ask(store: "ClickHouse", statement: str) -> "Mapping[str, Sequence[Any]]":
    """Give the answer to a statement that asks.

    Raises:
        CommandError: it does something else.
        Rejected: the engine refused it.
    """
    # The engine's own parser takes comments and odd spacing out of what is looked at here. Its
    # read-only mode lets two things through that are no question: INTO OUTFILE and KILL.
    asked = store.query("SELECT formatQuerySingleLine({it:String}) AS text", {"it": statement})
    text = _QUOTED.sub("''", asked["text"][0])
    word = "(" if text.startswith("(") else text.split(" ", 1)[0].upper()
    if word not in QUESTIONS or _OUTFILE.search(text):
        raise CommandError(
            f"`vigil sql` only asks, and this is {'OUTFILE' if word in QUESTIONS else word}",
            "tables change by `vigil ledger migrate` alone, rows by the audit service alone",
            Fault.ONLY_ASKS,
        )
    return store.query(statement, settings=READ_ONLY)


def _said(text: str) -> str:
    """Cut ClickHouse's message to what is wrong."""
    found = re.search(r"DB::Exception: (.*)", text, re.DOTALL)
    return _REST.split(found[1] if found else text, maxsplit=1)[0].strip()


def _plain(cell: Any) -> Any:
    """Give a value as text and JSON can show it: bytes as hex, times as ISO 8601."""
    import datetime as dt

    match cell:
        case bytes() | bytearray():
            plain: Any = cell.hex()
        case dt.datetime():
            plain = (cell if cell.tzinfo else cell.replace(tzinfo=dt.UTC)).isoformat()
        case list() | tuple():
            plain = [_plain(part) for part in cell]
        case dict():
            plain = {str(name): _plain(part) for name, part in cell.items()}
        case float():
            plain = cell if math.isfinite(cell) else None
        case int() | str() | None:
            plain = cell
        case _:
            plain = str(cell)
    return plain


def _print_json(names: list[str], rows: list[list[Any]]) -> None:
    import msgspec

    body = {"schema": "vigil.sql/1", "columns": names, "rows": rows}
    print(msgspec.json.encode(body).decode())


def _print_csv(names: list[str], rows: list[list[Any]]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def _print_table(names: list[str], rows: list[list[Any]]) -> None:
    cells = [names, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    for row in cells:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
