"""Which line-up of models scores a partition from which offset on; survives in its changelog."""

from collections.abc import Sequence
from typing import Final

import msgspec

from services.core.lineup import LineUp
from services.runtime.ports import Record, Row

KEY: Final = b"models"
"""Key of the changelog row; pseudonyms are longer."""
AS_STARTED: Final = -1
"""Instead of an offset of changes.v1: nobody changed anything yet."""


class CutOver(msgspec.Struct, frozen=True, kw_only=True):
    """From an offset of the partition on a line-up scores, until the next cut-over.

    Attributes:
        first: offset of the vitals from which on.
        position: offset in changes.v1 of the change that it follows, or AS_STARTED.
        line_up: what scores; its champion is always named.
    """

    first: int
    position: int
    line_up: LineUp


class Course:
    """The cut-overs of one partition, oldest first.

    The row is written in the transaction that first uses a line-up. So what was committed names
    the line-up of every offset, whatever dies and whoever gets the partition; and whoever hands
    the same row and the same log to a new task gets the same predictions.
    """

    def __init__(self) -> None:
        self._turns: list[CutOver] = []
        self._changed = False

    def load(self, row: bytes | None) -> None:
        """Take the changelog's row."""
        self._turns = msgspec.msgpack.decode(row, type=list[CutOver]) if row else []

    def changes(self) -> list[Row]:
        """Give the row if there was a cut-over since the last call."""
        if not self._changed:
            return []
        self._changed = False
        return [(KEY, msgspec.msgpack.encode(self._turns))]

    @property
    def latest(self) -> CutOver | None:
        """The cut-over that was last."""
        return self._turns[-1] if self._turns else None

    def at(self, offset: int) -> CutOver | None:
        """Give the cut-over that an offset falls under; None before any."""
        return next((turn for turn in reversed(self._turns) if turn.first <= offset), None)

    def shadow_since(self, digest: str, offset: int) -> int:
        """Give the first offset from which on a model has been a shadow without a break.

        Args:
            digest: of the model.
            offset: at which it is one; before any cut-over the answer is the offset.
        """
        since = offset
        for turn in reversed(self._turns):
            if turn.first <= offset:
                if digest not in {seat.digest for seat in turn.line_up.unseen()}:
                    break
                since = turn.first
        return since

    def turn(self, offset: int, position: int, line_up: LineUp) -> None:
        """Let a line-up score from an offset on; nothing happens if it does already.

        Args:
            offset: of the vitals, at or after every cut-over so far.
            position: in changes.v1.
            line_up: its champion is named.
        """
        if self._turns and self._turns[-1].line_up == line_up:
            return
        self._turns.append(CutOver(first=offset, position=position, line_up=line_up))
        self._changed = True

    def together(self, records: Sequence[Record]) -> int:
        """Say how many of the first records fall under one cut-over; all of those that are new."""
        later = [turn.first for turn in self._turns if turn.first > records[0].offset]
        if not later:
            return len(records)
        return sum(record.offset < later[0] for record in records)
