"""How far event time, and each source of outcomes, has come in one partition."""

from typing import Final

import msgspec

from services.core.labels import hour_of
from services.runtime.ports import Row

KEY: Final = b"progress"
"""Key of the changelog row; those of stays are longer."""


class ProgressRow(msgspec.Struct, array_like=True):
    """What is written."""

    watermark: int | None
    sources: dict[str, int]
    lag: int | None


class Progress:
    """The watermark of the predictions, and what the sources of outcomes have told through."""

    def __init__(self) -> None:
        self.watermark: int | None = None
        """Before this time (µs) no event is expected; never goes back."""
        self.lag: int | None = None
        """The lag of the labels that were told, µs; None before the first."""
        self._sources: dict[str, int] = {}
        self._changed = False

    @property
    def complete(self) -> int | None:
        """Up to where every source that ever told how far it is has told all outcomes, µs.

        Nothing says which source speaks for which patient, so the slowest one holds for all.
        """
        return min(self._sources.values(), default=None)

    def completing(self, source: str, through: int) -> int | None:
        """Say what `complete` would be after hearing a source."""
        return min({**self._sources, source: self._furthest(source, through)}.values())

    def hear(self, source: str, through: int) -> None:
        """Hear that a source has told of every onset before a time; it never takes that back."""
        self._sources[source] = self._furthest(source, through)
        self._changed = True

    def _furthest(self, source: str, through: int) -> int:
        return max(through, self._sources.get(source, through))

    def advance(self, watermark: int | None) -> bool:
        """Move on, and tell whether another UTC hour began."""
        before = self.watermark
        if watermark is None or (before is not None and watermark <= before):
            return False
        self.watermark, self._changed = watermark, True
        return before is None or hour_of(before) != hour_of(watermark)

    def follow(self, lag: int) -> None:
        """Remember the lag by which labels are told from now on."""
        self.lag, self._changed = lag, True

    def load(self, row: bytes | None) -> None:
        """Take the changelog's row."""
        if row is not None:
            told = msgspec.msgpack.decode(row, type=ProgressRow)
            self.watermark, self._sources, self.lag = told.watermark, told.sources, told.lag

    def changes(self) -> list[Row]:
        """Give the row if anything changed since the last call."""
        if not self._changed:
            return []
        self._changed = False
        return [
            (KEY, msgspec.msgpack.encode(ProgressRow(self.watermark, self._sources, self.lag)))
        ]
