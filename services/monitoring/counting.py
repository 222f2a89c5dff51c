"""Counting: the events of one source partition become tallies of windows."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

from services.core.errors import Refusal
from services.core.folds.fold import Fold
from services.monitoring.outputs import dead_output, tally_output
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record, Row

E = TypeVar("E", bound=msgspec.Struct)


class CountTask(Generic[E]):
    """The task of one partition of predictions.v1 or labelled.v1; satisfies `ports.Task`.

    Publish what `handle` gives before you keep what `changes` gives, and keep that in its order.

    Args:
        fold: counts the events; it knows its topic and partition.
        event: what the records of the topic are.
        codec: for events.
    """

    def __init__(self, fold: Fold[E], event: type[E], codec: Codec) -> None:
        self._fold, self._event, self._codec = fold, event, codec
        self._prefix = f"{fold.topic}/{fold.partition}/{fold.family}/".encode()

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one row of the changelog; one of another partition or family is none of ours."""
        if key.startswith(self._prefix):
            self._fold.load(key.removeprefix(self._prefix), value)

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        """Count records of the partition, in order; give the tallies that are due after each."""
        run: list[tuple[int, E]] = []
        origins: list[Record] = []
        for record in records:
            try:
                run.append((record.offset, self._codec.decode(record.value or b"", self._event)))
            except Refusal as refusal:
                yield from self._count(run, origins)
                yield dead_output(self._codec, record, refusal)
                run, origins = [], []
            else:
                origins.append(record)
        yield from self._count(run, origins)

    def _count(self, run: Sequence[tuple[int, E]], records: Sequence[Record]) -> Iterator[Output]:
        """Count decoded records, as many at once as their fold can."""
        at = 0
        while at < len(run):
            try:
                taken = self._fold.take_run(run[at:])
            except Refusal as refusal:
                yield dead_output(self._codec, records[at], refusal)
                at += 1
            else:
                yield from self._due(final=False)
                at += taken

    def flush(self) -> Iterable[Output]:
        """Give the tally of each closed window that changed; for when nothing will follow."""
        return self._due(final=True)

    def changes(self) -> Iterable[Row]:
        """Give the rows of the windows that changed since the last call."""
        for key, row in self._fold.rows():
            yield self._prefix + key, row

    def _due(self, *, final: bool) -> Iterable[Output]:
        for tally in self._fold.due(final=final):
            yield tally_output(self._codec, tally)
