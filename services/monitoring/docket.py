"""What judging remembers of one family: tallies, what was stated, which signals stand."""

import zlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from services.core.errors import Reason, Refusal
from services.core.events import Measurement, Signal, State, Tally
from services.core.judge.verdict import Earlier, Judge
from services.core.signals import Standing, follow, signals_of, unsaid
from services.core.windows import Window
from services.runtime.ports import Row

HEAD: Final = b"head"
"""Key of the row that belongs to no window."""
NEVER: Final = -(1 << 63)
"""Before every time, µs."""
GONE: Final = "gone"
"""Why a measurement is restated without a value: its cohort is no longer in the window."""


class Case(msgspec.Struct, kw_only=True):
    """One window: the latest tally of each source partition, and what was stated of it.

    A settled window keeps its memory alone.
    """

    start: int
    end: int
    tallies: dict[int, Tally] = {}
    statements: list[Measurement] = []
    memory: bytes = b""
    judged: bool = False
    settled: bool = False

    @property
    def window(self) -> Window:
        """The window itself."""
        return Window(self.start, self.end)


class Head(msgspec.Struct, kw_only=True):
    """How far each source partition has come, and the signals.

    Attributes:
        reached: by source partition the greatest end of a window that it has told of.
        settled: the greatest end of a window that cannot be restated any more.
        standing: the signals that were open after the last settled window.
        past: the steps that led there.
        said: the steps that were published, of standing signals and of windows not yet settled.
    """

    reached: dict[int, int] = {}
    settled: int = NEVER
    standing: list[Standing] = []
    past: list[Signal] = []
    said: list[Signal] = []


class Stated(NamedTuple):
    """What is to be published after one tally."""

    measurements: list[Measurement]
    signals: list[Signal]


class Docket:
    """The state of one family of windows; a function of the tallies it took, in order.

    Args:
        judge: of the family.
        partitions: how many source partitions there are.
    """

    def __init__(self, judge: Judge, partitions: int) -> None:
        self._judge, self._partitions = judge, partitions
        self._cases: dict[int, Case] = {}
        self._head = Head()
        self._changed: set[int] = set()
        self._head_changed = False

    def take(self, tally: Tally) -> Stated:
        """Take a tally, and give what must be said now.

        Raises:
            Refusal: another layout, no body, or a partition that does not exist; nothing changed.
        """
        self._check(tally)
        renewed = self._keep(tally)
        reached = max(tally.end, self._head.reached.get(tally.partition, tally.end))
        self._head_changed |= self._head.reached.get(tally.partition) != reached
        self._head.reached[tally.partition] = reached
        measurements = [each for case in self._due(renewed) for each in self._state(case)]
        signals = self._signal() if measurements else []
        self._settle()
        return Stated(measurements, signals)

    def _check(self, tally: Tally) -> None:
        if tally.layout != self._judge.layout:
            raise Refusal(Reason.SCHEMA_UNKNOWN, "layout")
        if not 0 <= tally.partition < self._partitions or tally.end <= tally.start:
            raise Refusal(Reason.NUM_RANGE, "partition")
        self._judge.check(tally.body)

    def _keep(self, tally: Tally) -> Case | None:
        """Replace a partition's tally; give the window if that says something new of it."""
        if tally.end <= self._head.settled:
            return None
        case = self._cases.setdefault(tally.start, Case(start=tally.start, end=tally.end))
        before = case.tallies.get(tally.partition)
        if before and before.through_offset >= tally.through_offset:
            return None
        case.tallies[tally.partition] = tally
        self._changed.add(case.start)
        same = before and (before.body, before.baseline) == (tally.body, tally.baseline)
        return None if same else case

    def _due(self, renewed: Case | None) -> list[Case]:
        """Windows to be judged, in order: those now complete, one that was restated, its next."""
        again = set() if renewed is None else {renewed.start}
        if renewed is not None and self._judge.remembers:
            again.add(renewed.window.following.start)
        return [
            case
            for start, case in sorted(self._cases.items())
            if not case.settled and (start in again if case.judged else self._complete(case))
        ]

    def _complete(self, case: Case) -> bool:
        return self._horizon() >= case.end

    def _horizon(self) -> int:
        """Every source partition has told of the windows that end here."""
        reached = self._head.reached
        return min(reached.values()) if len(reached) == self._partitions else NEVER

    def _state(self, case: Case) -> list[Measurement]:
        """Judge a window; give the measurements that differ from what was stated."""
        verdict = self._judge.judge(
            case.window,
            [tally for _, tally in sorted(case.tallies.items())],
            self._earlier(case),
        )
        revised, new = _revised(case.statements, verdict.measurements)
        case.statements, case.memory, case.judged = revised, verdict.memory, True
        self._changed.add(case.start)
        return new

    def _earlier(self, case: Case) -> list[Earlier]:
        found = [
            Earlier(start=start, end=other.end, memory=other.memory)
            for start, other in sorted(self._cases.items())
            if start < case.start and other.judged
        ]
        return found[max(0, len(found) - self._judge.remembers) :]

    def _signal(self) -> list[Signal]:
        head = self._head
        standing = {each.topic: each for each in head.standing}
        statements = [each for _, case in sorted(self._cases.items()) for each in case.statements]
        new = unsaid([*head.past, *signals_of(statements, standing)], head.said)
        head.said += new
        self._head_changed |= bool(new)
        return new

    def _settle(self) -> None:
        """Let go of windows that cannot be restated any more, oldest first."""
        judge, horizon = self._judge, self._horizon()
        starts = sorted(self._cases)
        for place, start in enumerate(starts):
            case = self._cases[start]
            length = case.end - case.start
            if not case.judged or case.end + judge.reach + 2 * length > horizon:
                break
            if not case.settled:
                self._close(case)
            if place < len(starts) - judge.remembers - 1:
                del self._cases[start]
                self._changed.add(start)

    def _close(self, case: Case) -> None:
        head = self._head
        standing = {each.topic: each for each in head.standing}
        steps, after = follow(case.statements, standing)
        names = {each.signal_id for each in after.values()}
        head.standing, head.settled = list(after.values()), case.end
        head.past = [step for step in (*head.past, *steps) if step.signal_id in names]
        head.said = [s for s in head.said if s.signal_id in names or s.start > case.start]
        case.tallies, case.statements, case.settled = {}, [], True
        self._changed.add(case.start)
        self._head_changed = True

    def load(self, key: bytes, row: bytes | None) -> None:
        """Take one row back."""
        if key == HEAD:
            self._head = msgspec.msgpack.decode(row, type=Head) if row else Head()
        elif row is None:
            self._cases.pop(int(key), None)
        else:
            self._cases[int(key)] = msgspec.msgpack.decode(zlib.decompress(row), type=Case)

    def rows(self) -> Iterable[Row]:
        """Give the rows that changed since the last call; the head is the last of them."""
        changed, self._changed = sorted(self._changed), set()
        for start in changed:
            case = self._cases.get(start)
            row = None if case is None else zlib.compress(msgspec.msgpack.encode(case), 1)
            yield str(start).encode(), row
        if self._head_changed:
            self._head_changed = False
            yield HEAD, msgspec.msgpack.encode(self._head)


def _revised(
    before: Sequence[Measurement], now: Sequence[Measurement]
) -> tuple[list[Measurement], list[Measurement]]:
    """Number what is stated now after what was; give all of it, and what differs."""
    known = {_key(each): each for each in before}
    revised, new = [], []
    for each in (*now, *_gone(before, now)):
        old = known.get(_key(each))
        same = old is not None and msgspec.structs.replace(each, revision=old.revision) == old
        revision = 0 if old is None else old.revision + (not same)
        stated = msgspec.structs.replace(each, revision=revision)
        revised.append(stated)
        if not same:
            new.append(stated)
    return revised, new


def _gone(before: Sequence[Measurement], now: Sequence[Measurement]) -> list[Measurement]:
    """Restate what is no longer there: nothing is known of it now."""
    present = {_key(each) for each in now}
    return [
        Measurement(
            metric=each.metric,
            feature=each.feature,
            cohort=each.cohort,
            unit_of_analysis=each.unit_of_analysis,
            start=each.start,
            end=each.end,
            revision=each.revision,
            value=None,
            patients=None,
            state=State.INSUFFICIENT,
            why=GONE,
        )
        for each in before
        if _key(each) not in present
    ]


def _key(measurement: Measurement) -> tuple[str, str, str, str]:
    m = measurement
    return m.metric, m.feature, m.cohort, m.unit_of_analysis
