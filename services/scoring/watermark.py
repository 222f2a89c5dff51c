"""How far event time has come, from the ticks of the sources."""

from typing import Final

import msgspec

from services.core.events import MICROSECONDS_PER_HOUR
from services.runtime.ports import Row

KEY: Final = b"ticks"
"""Key of the changelog row; pseudonyms are longer."""
SILENT_AFTER: Final = MICROSECONDS_PER_HOUR
"""A source so far behind the foremost one no longer holds the watermark back."""


class Watermark:
    """The latest tick of each source of a partition; never goes back."""

    def __init__(self) -> None:
        self._ticks: dict[str, int] = {}
        self._changed = False
        self.now: int | None = None
        """Before this time (µs) no event is expected; None before the first tick."""

    def load(self, row: bytes | None) -> None:
        """Take the changelog's row."""
        self._ticks, self.now = (
            msgspec.msgpack.decode(row, type=tuple[dict[str, int], int | None])
            if row
            else ({}, None)
        )

    def tick(self, source: str, at: int) -> None:
        """Hear a source's time."""
        self._ticks[source] = max(at, self._ticks.get(source, at))
        foremost = max(self._ticks.values())
        lowest = min(t for t in self._ticks.values() if t >= foremost - SILENT_AFTER)
        self.now = lowest if self.now is None else max(self.now, lowest)
        self._changed = True

    def changes(self) -> list[Row]:
        """Give the row if a tick came since the last call."""
        if not self._changed:
            return []
        self._changed = False
        return [(KEY, msgspec.msgpack.encode((self._ticks, self.now)))]
