"""Times as FHIR writes them, to microseconds since the epoch; nothing is guessed."""

import re
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final

from services.core.errors import Reason, Refusal

FUTURE_US: Final = 300_000_000
"""A time may lie this far after the message was received: clocks differ by minutes, not more."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US: Final = 86_400_000_000
_FIRST_DAWN_US: Final = 50_400_000_000
"""Somewhere it is already tomorrow: 14 h, the largest offset."""
_INSTANT: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:)(\d\d)(\.\d{1,18})?(Z|[+-](?:0\d|1[0-4]):[0-5]\d)"
)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_PARTIAL_DATE: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")
_LEAP_SECOND: Final = "60"


@lru_cache(maxsize=1024)  # the entries of a Bundle share a few times, each of bounded length
def instant(text: str) -> int:
    """Read a time of day with its offset: microseconds since the epoch.

    A leap second is read as the last millisecond before it, because no day of the epoch has it.

    Raises:
        ValueError: no offset, only a date, or no such day or hour.

    >>> instant("1970-01-01T14:00:00.5+14:00")
    500000
    """
    found = _INSTANT.fullmatch(text)
    if not found:
        raise ValueError("no time with an offset")
    minute, second, fraction, offset = found.groups()
    if second == _LEAP_SECOND:
        second, fraction = "59", ".999"
    moment = datetime.fromisoformat(f"{minute}{second}{fraction or ''}{offset}") - _EPOCH
    return moment.days * _DAY_US + moment.seconds * 1_000_000 + moment.microseconds


def moment(text: str, place: str) -> int:
    """Read a time as `instant`; raises Refusal (TIME_FORMAT) with its place."""
    try:
        return instant(text)
    except ValueError:
        raise Refusal(Reason.TIME_FORMAT, place) from None


def not_after(at: int, received_at: int, place: str) -> int:
    """Give a time back unless it lies in the future of its message; raises TIME_FUTURE."""
    if at > received_at + FUTURE_US:
        raise Refusal(Reason.TIME_FUTURE, place)
    return at


def bound(text: str | None, place: str) -> int | None:
    """Read one end of a period; a date alone is no time (None); raises TIME_FORMAT."""
    if text is None or _DATE.fullmatch(text):
        return None
    return moment(text, place)


def completed_years(birth_date: str, at: int) -> int:
    """Say how old somebody is: completed years.

    Args:
        birth_date: a day, a month or a year; of a month or a year its first day counts.
        at: microseconds since the epoch; the date is the one where the day begins first.

    Raises:
        ValueError: no such date.

    >>> completed_years("1960-02-29", 1_709_164_800_000_000)
    64
    """
    found = _PARTIAL_DATE.fullmatch(birth_date)
    if not found:
        raise ValueError("no date")
    year, month, day = found.groups()
    born = date(int(year), int(month or 1), int(day or 1))
    today = datetime.fromtimestamp((at + _FIRST_DAWN_US) // 1_000_000, UTC).date()
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
