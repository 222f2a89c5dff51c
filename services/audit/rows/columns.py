"""What every derivation shares: columns of equal length, and the checks that refuse an event."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from services.core.errors import Reason, Refusal
from services.core.events import PSEUDONYM_BYTES

Columns = dict[str, Sequence[Any]]

PACKED: Final = frozenset(
    {"entries", "variables", "values", "flags", "ids", "versions", "measured", "features"}
)
"""Columns whose Strings are packed numbers and no text."""


def one_row(cells: dict[str, Any]) -> Columns:
    """Give the columns of an event that has one row."""
    return {name: (cell,) for name, cell in cells.items()}


def fields(event: msgspec.Struct, *but: str) -> dict[str, Any]:
    """Give the fields of an event as they are, all but some; words of ours as plain text."""
    found = {name: getattr(event, name) for name in event.__struct_fields__ if name not in but}
    return {n: str(v) if isinstance(v, StrEnum) else v for n, v in found.items()}


def fixed(name: bytes, place: str) -> bytes:
    """Give a pseudonym, zeros where there is none; a Refusal for one of another length."""
    must(len(name) in (0, PSEUDONYM_BYTES), place)
    return name or bytes(PSEUDONYM_BYTES)


def must(holds: bool, place: str) -> None:  # noqa: FBT001 - a condition, not a switch
    """Refuse a malformed event."""
    if not holds:
        raise Refusal(Reason.AVRO_SYNTAX, place)
