"""How much of what each source sends is refused, so that no source is refused in silence; pure."""

from collections import deque
from typing import Final

import msgspec

from services.core.events import Fate, Receipt

WINDOW: Final = 1_000
"""So many messages of a source are looked at together."""
TOO_MANY: Final = 50
"""More refused messages of WINDOW are an alarm: 5 %."""
TOO_LONG: Final = 100
"""So many refused messages one after the other are an alarm."""
SOURCES: Final = 1_000
"""No more sources are told apart; the first to be heard are."""
_TICK, _DEAD = Fate.TICK, Fate.DEAD


class _Heard:
    """The latest messages of one source."""

    def __init__(self) -> None:
        self.recent: deque[bool] = deque(maxlen=WINDOW)
        self.refused = 0
        self.in_a_row = 0

    def note(self, *, refused: bool) -> None:
        if len(self.recent) == WINDOW:
            self.refused -= self.recent[0]
        self.recent.append(refused)
        self.refused += refused
        self.in_a_row = self.in_a_row + 1 if refused else 0


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """The most that any source has of both."""

    refused: int
    """Refused messages among its latest WINDOW."""
    in_a_row: int

    @property
    def alarming(self) -> bool:
        """Whether somebody must look."""
        return self.refused > TOO_MANY or self.in_a_row >= TOO_LONG


class Refusals:
    """Counts messages of which anything was refused, per source; ticks are no messages."""

    def __init__(self) -> None:
        self._sources: dict[str, _Heard] = {}

    def note(self, receipt: Receipt) -> None:
        """Take one receipt into account."""
        refused = False
        for entry in receipt.entries:
            if entry.fate is _TICK:
                return
            refused = refused or entry.fate is _DEAD
        heard = self._sources.get(receipt.source)
        if heard is None:
            if len(self._sources) == SOURCES:
                return
            heard = self._sources.setdefault(receipt.source, _Heard())
        heard.note(refused=refused)

    def worst(self) -> Worst:
        """Say how bad it is with the worst source."""
        heard = list(self._sources.values())  # asked by another thread than the one that notes
        return Worst(
            refused=max((each.refused for each in heard), default=0),
            in_a_row=max((each.in_a_row for each in heard), default=0),
        )
