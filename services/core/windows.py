"""Windows of event time: they tumble, and begin where UTC days begin."""

from collections.abc import Iterator
from typing import Final, NamedTuple

HOUR: Final = 3_600_000_000
"""An hour, µs."""
DAY: Final = 24 * HOUR
"""A day, µs."""
WEEK: Final = 7 * DAY
"""A week, µs."""
MONDAY: Final = 4 * DAY
"""The first Monday of the epoch, µs: the origin of windows of a week."""


class Window(NamedTuple):
    """From `start` on and before `end`, µs since the epoch, UTC."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How long it is, µs."""
        return self.end - self.start

    @property
    def following(self) -> "Window":
        """The window that begins where this one ends."""
        return Window(self.end, self.end + self.length)

    @property
    def previous(self) -> "Window":
        """The window that ends where this one begins."""
        return Window(self.start - self.length, self.start)


def window_of(at: int, length: int, origin: int = 0) -> Window:
    """Give the window that holds a moment.

    Args:
        at: µs, may lie before the origin.
        length: of each window, µs, more than 0.
        origin: where some window begins, µs.

    >>> window_of(25 * HOUR, DAY) == Window(DAY, 2 * DAY)
    True
    """
    start = at - (at - origin) % length
    return Window(start, start + length)


def windows_between(first: int, until: int, length: int) -> Iterator[Window]:
    """Give each window that begins at or after `first` and ends at or before `until`, in order.

    >>> [window.start // DAY for window in windows_between(DAY, 3 * DAY + HOUR, DAY)]
    [1, 2]
    """
    window = Window(first, first + length)
    while window.end <= until:
        yield window
        window = window.following
