"""The labels of one partition, folded into windows: of each hour the latest revision counts."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from services.core.cohorts import GROUP_DIMENSIONS, UNKNOWN, grouped
from services.core.errors import Reason, Refusal
from services.core.events import PSEUDONYM_BYTES, Labelled, Tally
from services.core.folds.calendar import Calendar
from services.core.folds.fold import FoldRow
from services.core.label_tallies import (
    LAYOUT,
    NOTHING,
    Counts,
    Group,
    LabelTally,
    counts_of,
    encode,
    summed,
)
from services.core.labels import HORIZON_H
from services.core.windows import DAY, HOUR, WEEK, Window

TOPIC: Final = "labelled.v1"
"""Where it comes from."""
REACH: Final = WEEK
"""How long after its end a window is restated, µs."""
HORIZON_S: Final = HORIZON_H * 3600
"""How long after an alert an onset still makes it true."""

_MARK: Final = struct.Struct(">q")
_KEY: Final = struct.Struct(f">q{PSEUDONYM_BYTES}s{PSEUDONYM_BYTES}s")
_CALENDAR: Final = b"calendar"


def family_of(length: int) -> str:
    """Name what is counted, over which length (µs).

    >>> family_of(DAY)
    'labels/24h'
    """
    return f"labels/{length // HOUR}h"


class _Stay(NamedTuple):
    """One encounter in one window."""

    start: int
    pseudonym: bytes
    encounter: bytes


class _Hour(NamedTuple):
    """What one hour of it adds, and to whom."""

    labels: tuple[str, ...]
    counts: Counts


_Hours = dict[int, msgspec.Raw]
"""By begin of the hour, each as it stands in the row: one changes, and the others are not read."""
_HOURS: Final = msgspec.msgpack.Decoder(_Hours)
_HOUR: Final = msgspec.msgpack.Decoder(_Hour)


class _Kept:
    """The hours of one encounter in one window: a row, open from a change until it is written."""

    __slots__ = ("_hours", "_row", "mark")

    def __init__(self, row: bytes | None = None) -> None:
        self._row = row
        self._hours: _Hours | None = None
        self.mark = -1 if row is None else _MARK.unpack_from(row)[0]
        """The last offset that is counted in it."""

    def hours(self) -> _Hours:
        """Give the hours."""
        if self._hours is None and self._row is not None:
            return _HOURS.decode(memoryview(self._row)[_MARK.size :])
        return self._hours or {}

    def put(self, hour: int, added: _Hour | None, offset: int) -> None:
        """Let what an hour adds take the place of what it added; None: nothing any more."""
        hours = self._hours = self.hours()
        hours.pop(hour, None)
        if added is not None:
            hours[hour] = msgspec.Raw(msgspec.msgpack.encode(added))
        self.mark = offset

    def close(self) -> bytes:
        """Give the row."""
        if self._hours is not None or self._row is None:
            self._row = _MARK.pack(self.mark) + msgspec.msgpack.encode(self._hours)
            self._hours = None
        return self._row


class LabelFold:
    """Counts each hour in the window that it begins in; satisfies `folds.fold.Fold`.

    Of each encounter and window it keeps what each hour adds, and not only the sum: a revision may
    move an hour to another cohort, which `before` does not name. So `now` takes the place of what
    is kept, and a missing `now` removes it. labelled.v1 is written exactly once and in order, so a
    revision that comes again is known by its offset, and its number need not be remembered.

    Args:
        partition: of labelled.v1.
        length: of each window, µs, whole hours.
        reach: how long after its end a window is restated, µs.
        origin: where some window begins, µs.
    """

    topic = TOPIC

    def __init__(
        self, partition: int, *, length: int = DAY, reach: int = REACH, origin: int = 0
    ) -> None:
        self.partition = partition
        self.family = family_of(length)
        self._calendar = Calendar(length, reach, origin)
        self._windows: dict[int, dict[_Stay, _Kept]] = {}
        self._changed: dict[_Stay, None] = {}
        self._kept = -1

    def take(self, event: Labelled, offset: int) -> None:
        """Count an hour's revision, or only the time.

        Raises:
            Refusal: it is no hour of anybody, or no label.
        """
        if event.pseudonym:
            check(event)
            start = self._calendar.start(event.hour)
            if start is not None:
                self._replace(_Stay(start, event.pseudonym, event.encounter), event, offset)
        elif event.now is not None:
            raise Refusal(Reason.SUBJECT, "pseudonym")
        before = self._calendar.watermark
        self._calendar.advance(event.watermark, offset)
        if self._calendar.watermark != before:
            self._forget()

    def take_run(self, run: Sequence[tuple[int, Labelled]]) -> int:
        """Count hours until one turns the hour, or cannot be used and is not the first."""
        taken = 0
        for offset, event in run:
            try:
                self.take(event, offset)
            except Refusal:
                if not taken:
                    raise
                break
            taken += 1
            if self._calendar.turned:
                break
        return taken

    def _replace(self, stay: _Stay, event: Labelled, offset: int) -> None:
        stays = self._windows.setdefault(stay.start, {})
        kept = stays.get(stay) or stays.setdefault(stay, _Kept())
        if offset <= kept.mark:
            return
        now = event.now
        added = None if now is None else _Hour(_labels(event), counts_of(now, HORIZON_S))
        kept.put(event.hour, added, offset)
        self._changed[stay] = None
        self._calendar.restate(stay.start)

    def _forget(self) -> None:
        for start in [each for each in self._windows if not self._calendar.held(each)]:
            self._changed |= dict.fromkeys(self._windows.pop(start))

    def load(self, key: bytes, row: bytes | None) -> None:
        """Take one row back."""
        if key == _CALENDAR:
            self._calendar.load(row or b"")
            return
        stay = _Stay(*_KEY.unpack(key))
        stays = self._windows.setdefault(stay.start, {})
        if row is None:
            stays.pop(stay, None)
        else:
            stays[stay] = _Kept(row)

    def rows(self) -> Iterable[FoldRow]:
        """Give each encounter's window that changed, how far time has come, what is over."""
        changed, self._changed = self._changed, {}
        gone = []
        for stay in changed:
            kept = self._windows.get(stay.start, {}).get(stay)
            if kept is None:
                gone.append(stay)
            else:
                yield _KEY.pack(*stay), kept.close()
        if self._kept != self._calendar.mark:
            self._kept = self._calendar.mark
            yield _CALENDAR, self._calendar.row()
        for stay in gone:
            yield _KEY.pack(*stay), None

    def due(self, *, final: bool = False) -> Iterable[Tally]:
        """Give the tallies to be published now, windows in order of their start."""
        for window in self._calendar.due(final=final):
            yield self._tally(window)

    def _tally(self, window: Window) -> Tally:
        return Tally(
            family=self.family,
            layout=LAYOUT,
            start=window.start,
            end=window.end,
            topic=self.topic,
            partition=self.partition,
            through_offset=self._calendar.mark,
            baseline="",
            body=encode(tally_of(self._lines(window.start))),
        )

    def _lines(self, start: int) -> Iterator[tuple[Group, Counts]]:
        for stay, kept in self._windows.get(start, {}).items():
            for written in kept.hours().values():
                hour = _HOUR.decode(written)
                yield Group(stay.pseudonym, grouped(hour.labels)), hour.counts


def tally_of(lines: Iterable[tuple[Group, Counts]]) -> LabelTally:
    """Add up what distinct hours add."""
    groups: dict[Group, list[Counts]] = {}
    for group, counts in lines:
        groups.setdefault(group, []).append(counts)
    return {group: summed(counts) for group, counts in groups.items()}


def line_of(event: Labelled) -> tuple[Group, Counts]:
    """Say what the hour of an event adds, and to whom; nothing where it was removed."""
    counts = NOTHING if event.now is None else counts_of(event.now, HORIZON_S)
    return Group(event.pseudonym, _labels(event)), counts


def _labels(event: Labelled) -> tuple[str, ...]:
    known = dict(zip(event.cohort_dimensions, event.cohorts, strict=True))
    return tuple(known.get(dimension, UNKNOWN) for dimension in GROUP_DIMENSIONS)


def check(event: Labelled) -> None:
    """Look at an event that is of somebody.

    Raises:
        Refusal: no pseudonym, no hour, no label, no probability.
    """
    if len(event.pseudonym) != PSEUDONYM_BYTES or len(event.encounter) != PSEUDONYM_BYTES:
        raise Refusal(Reason.SUBJECT, "pseudonym")
    if event.hour % HOUR:
        raise Refusal(Reason.TIME_FORMAT, "hour")
    if len(event.cohorts) != len(event.cohort_dimensions):
        raise Refusal(Reason.DEMOG, "cohorts")
    if event.now is not None and event.now.label not in (-1, 0, 1):
        raise Refusal(Reason.RANGE, "now.label")
    if event.now is not None and not 0 <= event.now.score <= 1:
        raise Refusal(Reason.RANGE, "now.score")
