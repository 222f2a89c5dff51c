"""The fold of patient-hours: what one partition of predictions.v1 adds to each window."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.baseline import Baseline
from services.core.cohorts import GROUP_DIMENSIONS
from services.core.errors import Refusal
from services.core.events import PredictionBatch, Role, Tally
from services.core.folds.calendar import Calendar
from services.core.folds.columns import Columns, columns_of
from services.core.folds.fold import FoldRow
from services.core.folds.patients import PatientHours
from services.core.folds.summing import hour_tally
from services.core.tallies import HOURS_LAYOUT, encode
from services.core.windows import DAY, HOUR, Window

TOPIC: Final = "predictions.v1"
CLOCK: Final = b"clock"
"""Key of the row that belongs to no window."""

BaselineAt = Callable[[int], Baseline | None]


def hours_family(length: int) -> str:
    """Name the family of windows of patient-hours of a length, µs.

    >>> hours_family(DAY)
    'hours/24h'
    """
    return f"hours/{length // HOUR}h"


class HourFold:
    """Counts the patient-hours of one partition; satisfies `Fold[PredictionBatch]`.

    Only what is shown to people counts: a shadow model scores the same events again.

    Args:
        partition: of predictions.v1.
        baseline_at: gives the baseline in force at a window's start, µs. When it gives another one
            than before, the closed windows it concerns are due again.
        length: of each window, µs, whole hours.
        reach: how long after its end a window is still restated, µs.
        origin: where some window begins, µs.
    """

    topic = TOPIC

    def __init__(
        self,
        partition: int,
        baseline_at: BaselineAt,
        *,
        length: int = DAY,
        reach: int = DAY,
        origin: int = 0,
    ) -> None:
        self.partition, self.family = partition, hours_family(length)
        self._baseline_at = baseline_at
        self._calendar = Calendar(length, reach, origin)
        self._windows: dict[int, PatientHours] = {}
        self._digests: dict[int, str] = {}  # of the bins in which a window was last told
        self._changed: set[int] = set()
        self._moved = False

    def take(self, event: PredictionBatch, offset: int) -> None:
        """Count a batch; one that was counted is ignored. Raises Refusal, and changes nothing."""
        self._take([(offset, event)])

    def take_run(self, run: Sequence[tuple[int, PredictionBatch]]) -> int:
        """Count as many batches at once as nothing comes between.

        A live feed brings a few entries in each: a batch of its own costs as much as dozens.
        """
        many = self._alike(run)
        while True:
            try:
                self._take(run[:many])
            except Refusal:
                if many == 1:
                    raise
                many //= 2  # somewhere behind the first
            else:
                return many

    def _alike(self, run: Sequence[tuple[int, PredictionBatch]]) -> int:
        """Give for how many batches, at least one, the same windows take events.

        Those are other windows after the watermark moved; a batch moves it after it was counted.
        """
        dimensions = run[0][1].cohort_dimensions
        for place, (_, event) in enumerate(run):
            if event.cohort_dimensions != dimensions:
                return place
            if self._calendar.moves(event.watermark):
                return place + 1
        return len(run)

    def _take(self, run: Sequence[tuple[int, PredictionBatch]]) -> None:
        fresh = [(offset, event) for offset, event in run if offset > self._calendar.mark]
        shown = [(offset, event) for offset, event in fresh if event.role is Role.SHOWN]
        if shown:
            offsets, batches = zip(*shown, strict=True)
            self._count(columns_of(batches, GROUP_DIMENSIONS), np.array(offsets))
        for offset, event in fresh:
            self._calendar.advance(event.watermark, offset)
            self._moved = True

    def _count(self, columns: Columns, offsets: NDArray[np.int64]) -> None:
        rows = np.flatnonzero(columns.counts)
        if not len(rows):
            return
        calendar = self._calendar
        places = (columns.measured_at[rows] - calendar.origin) // calendar.length
        found = set(places.tolist())
        for place in sorted(found):
            start = calendar.start(place * calendar.length + calendar.origin)
            inside = rows if len(found) == 1 else rows[places == place]
            if start is not None:
                self._add(start, columns, inside, offsets)

    def _add(
        self,
        start: int,
        columns: Columns,
        rows: NDArray[np.intp],
        offsets: NDArray[np.int64],
    ) -> None:
        window = self._window(start)
        new = rows[offsets[columns.source[rows]] > window.mark]
        if not len(new):
            return
        window.add(columns, new)
        window.mark = int(offsets[columns.source[new[-1]]])
        self._changed.add(start)
        self._calendar.changed(start)

    def _window(self, start: int) -> PatientHours:
        found = self._windows.get(start)
        if found is None:
            window = Window(start, start + self._calendar.length)
            found = self._windows[start] = PatientHours(window)
        return found

    def due(self, *, final: bool = False) -> Iterable[Tally]:
        """Give the tallies to be published now, windows in order of their start."""
        calendar = self._calendar
        if not (calendar.turned or final):
            return
        for start, digest in self._digests.items():
            if digest != self._digest(start):
                calendar.restate(start)
        for window in calendar.due(final=final):
            yield self._tally(window)
        self._forget()

    def _tally(self, window: Window) -> Tally:
        found = self._windows.get(window.start) or PatientHours(window)
        before = self._windows.get(window.previous.start)
        names = set(before.pseudonyms()) if before else set()
        baseline = self._baseline_at(window.start)
        self._digests[window.start] = baseline.digest if baseline else ""
        body = hour_tally(found, names, baseline, self.partition)
        return Tally(
            family=self.family,
            layout=HOURS_LAYOUT,
            start=window.start,
            end=window.end,
            topic=self.topic,
            partition=self.partition,
            through_offset=max(self._calendar.mark, found.mark),
            baseline=self._digests[window.start],
            body=encode(body),
        )

    def _digest(self, start: int) -> str:
        baseline = self._baseline_at(start)
        return baseline.digest if baseline else ""

    def _forget(self) -> None:
        for start in [start for start in self._windows if not self._calendar.held(start)]:
            del self._windows[start]
            self._changed.add(start)
        self._digests = {s: d for s, d in self._digests.items() if self._calendar.held(s)}

    def load(self, key: bytes, row: bytes | None) -> None:
        """Take one row back."""
        if key == CLOCK:
            if row is not None:
                self._calendar.load(row)
        elif row is None:
            self._windows.pop(int(key), None)
        else:
            self._window(int(key)).unpack(row)

    def rows(self) -> Iterable[FoldRow]:
        """Give the rows that changed since the last call: windows, clock, what may be forgotten.

        In a crash between them nothing is forgotten that a clock of before would ask for.
        """
        changed, self._changed = sorted(self._changed), set()
        for start in changed:
            if start in self._windows:
                yield str(start).encode(), self._windows[start].pack()
        if self._moved:
            self._moved = False
            yield CLOCK, self._calendar.row()
        for start in changed:
            if start not in self._windows:
                yield str(start).encode(), None
