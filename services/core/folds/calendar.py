"""When the windows of one partition open, close, are due again and are forgotten."""

import struct
from typing import Final

from services.core.windows import HOUR, Window, window_of, windows_between

MOST_AT_ONCE: Final = 400
"""Windows that one leap of the watermark closes; of a longer leap only the latest are told."""
_ROW: Final = struct.Struct(">qqqq")
_NONE: Final = -(1 << 63)


class Calendar:
    """The windows of one partition, as its watermark passes over them.

    The first window is the one that holds the first watermark. A window takes events until its end
    plus the reach lies at or before the watermark, and is held for one length more, because the
    following window asks it who was there.

    Args:
        length: of each window, µs, whole hours.
        reach: how long after its end a window is still restated, µs.
        origin: where some window begins, µs.
    """

    def __init__(self, length: int, reach: int, origin: int = 0) -> None:
        self.length, self.reach, self.origin = length, reach, origin
        self.watermark: int | None = None
        """µs; never goes back."""
        self.first: int | None = None
        """Start of the first window, µs; None before the first watermark."""
        self.mark = -1
        """The last offset that was taken."""
        self._told = _NONE  # every window that ends here or before was due
        self._stale: set[int] = set()
        self._turned = False

    def start(self, at: int) -> int | None:
        """Start of the window that an event at `at` counts in; None: it comes too late."""
        window = window_of(at, self.length, self.origin)
        return window.start if self.takes(window) else None

    def takes(self, window: Window) -> bool:
        """Tell whether a window still takes events."""
        if self.watermark is None or self.first is None:
            return True
        return window.start >= self.first and window.end + self.reach > self.watermark

    def held(self, start: int) -> bool:
        """Tell whether a window's state is still asked for."""
        if self.watermark is None or self.first is None:
            return True
        return start >= self.first and start + 2 * self.length + self.reach > self.watermark

    def changed(self, start: int) -> None:
        """Hear that a window took something; the following one counts who is new by it."""
        self.restate(start)
        self.restate(start + self.length)

    def restate(self, start: int) -> None:
        """Have a window's tally published again, once the window is closed."""
        self._stale.add(start)

    @property
    def turned(self) -> bool:
        """Whether the watermark has entered another hour since something was asked to be due."""
        return self._turned

    def moves(self, watermark: int | None) -> bool:
        """Tell whether time moves on by an event's watermark, µs."""
        return watermark is not None and (self.watermark is None or watermark > self.watermark)

    def advance(self, watermark: int | None, offset: int) -> None:
        """Move on to an event's watermark, µs, after the event was counted."""
        self.mark = offset
        if watermark is None or not self.moves(watermark):
            return
        if self.watermark is None:
            self._begin(watermark)
        self._turned |= watermark // HOUR != (self.watermark or 0) // HOUR
        self.watermark = watermark

    def _begin(self, watermark: int) -> None:
        self.first = self._told = window_of(watermark, self.length, self.origin).start
        self._stale = {start for start in self._stale if start >= self.first}

    def due(self, *, final: bool = False) -> list[Window]:
        """Give the windows whose tallies are to be published now, in order."""
        if self.watermark is None or not (self._turned or final):
            return []
        self._turned = False
        closed = window_of(self.watermark, self.length, self.origin).start
        again = sorted(s for s in self._stale if s < self._told and self.held(s))
        since = max(self._told, closed - MOST_AT_ONCE * self.length)
        fresh = windows_between(since, closed, self.length)
        due = [Window(s, s + self.length) for s in again] + list(fresh)
        self._told = max(self._told, closed)
        self._stale = {start for start in self._stale if start >= closed}
        return due

    def row(self) -> bytes:
        """Give the state; it starts with the offset that was taken last."""
        return _ROW.pack(
            self.mark,
            _NONE if self.watermark is None else self.watermark,
            _NONE if self.first is None else self.first,
            self._told,
        )

    def load(self, row: bytes) -> None:
        """Take the state; each closed window that still takes events is due once more.

        It may have changed since it was published. Not before the watermark enters another hour:
        so the same is published as by a process that never ended. A window that takes none any
        more was told for good, and the one before it, which knew who is new, may be forgotten.
        """
        self.mark, watermark, first, self._told = _ROW.unpack(row)
        self.watermark = None if watermark == _NONE else watermark
        self.first = None if first == _NONE else first
        if self.watermark is None or self.first is None:
            return
        oldest = window_of(self.watermark - self.reach - self.length, self.length, self.origin)
        self._stale = {
            window.start
            for window in windows_between(max(self.first, oldest.end), self._told, self.length)
        }
