"""How far event time had come at the end of the log when scoring came back to it.

Whoever catches up meets scores of hours ago. An alert that would be over by the time at which the
sources already are calls somebody to a patient as they were, not as they are; it is held, and
counted. What counts is where the sources' clocks stood at the end of the log when a life began:
not our clock, and not the end as it moves on. It is written down with the offset from which on it
holds, so that a restart and a replay decide alike.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from services.core.policy import NEVER
from services.runtime.ports import Record, Row

KEY: Final = b"horizon"
"""Key of the changelog row; pseudonyms are longer."""
Look = Callable[[Record], int | None]
"""Given the first record that a life is handed, says how far event time (µs) is at the end of the
log; None where nothing waits there, or nobody can say. May block for a second."""


def nowhere(_: Record) -> None:
    """Look at nothing: who repeats a log holds what was held then."""


class Horizon:
    """The horizons of one partition, each with the offset from which on it holds."""

    def __init__(self, look: Look = nowhere) -> None:
        self._look: Look | None = look
        self._turns: list[tuple[int, int]] = []
        self._changed = False

    def load(self, row: bytes | None) -> None:
        """Take the changelog's row."""
        self._turns = msgspec.msgpack.decode(row, type=list[tuple[int, int]]) if row else []

    def changes(self) -> list[Row]:
        """Give the row if a horizon came since the last call."""
        if not self._changed:
            return []
        self._changed = False
        return [(KEY, msgspec.msgpack.encode(self._turns))]

    def reach(self, record: Record) -> None:
        """Look ahead from the first record that this life is handed; of later ones do nothing."""
        if self._look is None:
            return
        look, self._look = self._look, None
        found = look(record)
        if found is not None and found > self.at(record.offset):
            self._turns.append((record.offset, found))
            self._changed = True

    def at(self, offset: int) -> int:
        """Give the time in µs before which an alert of an offset must not end."""
        return next((to for first, to in reversed(self._turns) if first <= offset), NEVER)
