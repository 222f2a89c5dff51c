"""The shape of a fold: events in, tallies of windows out, state in rows."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from services.core.events import Tally

E_contra = TypeVar("E_contra", contravariant=True)
FoldRow = tuple[bytes, bytes | None]
"""A key within the fold and its state; None: forgotten."""


class Fold(Protocol[E_contra]):
    """What one partition of one topic adds to the windows of one family.

    A fold is a function of the events it took, in order, whatever batches they came in; it never
    reads a clock. Its rows may be written at different moments, and in a crash some of them not at
    all: each starts with the offset through which it has counted (8 bytes, big-endian, signed), so
    an event that comes again is counted only by what has not counted it. The rows must be kept in
    the order in which `rows` gives them, and only after the tallies before them are published.
    """

    family: str
    topic: str
    partition: int

    def take(self, event: E_contra, offset: int) -> None:
        """Count an event of the partition; one that was counted is ignored.

        Raises:
            Refusal: it cannot be used; nothing was changed.
        """

    def take_run(self, run: Sequence[tuple[int, E_contra]]) -> int:
        """Count some of the first events of a run, the same as one by one; then ask `due`.

        Args:
            run: at least one event of the partition after its offset, in order.

        Returns:
            How many were counted, at least one: those of which only the last may make a tally due.

        Raises:
            Refusal: the first cannot be used; nothing was changed.
        """

    def load(self, key: bytes, row: bytes | None) -> None:
        """Take one row back, oldest first, before any event. What was due may be due again."""

    def rows(self) -> Iterable[FoldRow]:
        """Give each row that changed since the last call; None: it may be forgotten."""

    def due(self, *, final: bool = False) -> Iterable[Tally]:
        """Give the tallies to be published now, windows in order of their start.

        That is every window that the watermark has passed since, empty ones too, and, when the
        watermark enters another UTC hour, each closed window that has changed since it was given.

        Args:
            final: give the changed closed windows now; nothing will follow.
        """
