"""Times as people give them at the terminal, and as they are shown there."""

import datetime as dt
from typing import Final

import typer

_DAY: Final = "2026-03-01"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def moment(text: str) -> int:
    """Read a day, which begins at midnight UTC, or a time with its zone; µs.

    Raises:
        BadParameter: it is neither.
    """
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a time looks like 2026-03-01 or 2026-03-01T08:00Z") from None
    if found.tzinfo is None and len(text) > len(_DAY):
        raise typer.BadParameter("a time needs its zone, such as 2026-03-01T08:00Z")
    return microseconds(found if found.tzinfo else found.replace(tzinfo=dt.UTC))


def microseconds(at: dt.datetime) -> int:
    """Count µs since the epoch."""
    return (at - _EPOCH) // dt.timedelta(microseconds=1)


def shown(at: int) -> str:
    """Write a time in µs for people."""
    return (_EPOCH + dt.timedelta(microseconds=at)).strftime("%Y-%m-%d %H:%MZ")
