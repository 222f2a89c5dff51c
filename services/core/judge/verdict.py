"""The shape of a judge: one window's tallies in, measurements with their states out."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from services.core.events import Measurement, Tally
from services.core.windows import Window


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a judge says of one window.

    Attributes:
        measurements: in a fixed order; their revision is 0, whoever publishes them knows better.
        memory: what later windows of the family need of this one, short; only the judge reads it.
    """

    measurements: list[Measurement]
    memory: bytes = b""


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """A window that was judged before, as its verdict is now."""

    start: int
    end: int
    memory: bytes


class Judge(Protocol):
    """What is said of the windows of one family; a pure function of what it is given.

    Attributes:
        family: of the tallies, such as hours/24h.
        layout: of their bodies.
        reach: how long after its end a window is restated, µs.
        remembers: how many earlier windows `judge` wants to see.
    """

    family: str
    layout: str
    reach: int
    remembers: int

    def check(self, body: bytes) -> None:
        """Raise Refusal where a body of this layout is malformed."""

    def judge(
        self, window: Window, tallies: Sequence[Tally], earlier: Sequence[Earlier]
    ) -> Verdict:
        """Judge a window.

        Args:
            window: that is complete.
            tallies: the latest of each source partition that has one, in order of partition.
            earlier: up to `remembers` windows that lie before it, oldest first, without gaps
                promised.
        """
