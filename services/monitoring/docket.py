"""What judging remembers of one family: tallies, what was stated, which signals stand."""

import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from services.core.errors import Reason, Refusal
from services.core.events import Measurement, Signal, Tally
from services.core.judge.verdict import Earlier, Judge
from services.core.signals import Standing, follow, signals_of, unsaid
from services.core.windows import Window
from services.monitoring.revisions import revised
from services.runtime.ports import Row

HEAD: Final = b"head"
"""Key of the row that belongs to no window."""
NEVER: Final = -(1 << 63)
"""Before every time, µs."""


class Case(msgspec.Struct, kw_only=True):
    """One window: the latest tally of each source partition, and what was stated of it.

    `written` is the flush that wrote it last, `turn` which of its two keys that was.
    """

    start: int
    end: int
    tallies: dict[int, Tally] = {}
    statements: list[Measurement] = []
    memory: bytes = b""
    judged: bool = False
    written: int = 0
    turn: int = 0

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
        kept: by window the flush that wrote the row which belongs to this head.
        flush: the number of the flush that wrote this.
    """

    reached: dict[int, int] = {}
    settled: int = NEVER
    standing: list[Standing] = []
    past: list[Signal] = []
    said: list[Signal] = []
    kept: dict[int, int] = {}
    flush: int = 0


class Stated(NamedTuple):
    """What is to be published after one tally."""

    measurements: list[Measurement]
    signals: list[Signal]


class Docket:
    """The state of one family of windows; a function of the tallies it took, in order.

    Its rows are kept in whole or not at all: every window is written to two keys in turn, the head
    comes last and says which rows belong to it. So it goes on after a crash as if it had never
    known what it had not kept.

    Args:
        judge: of the family.
        partitions: how many source partitions there are.
    """

    def __init__(self, judge: Judge, partitions: int) -> None:
        self._judge, self._partitions = judge, partitions
        self._cases: dict[int, Case] = {}
        self._head = Head()
        self._changed: set[int] = set()
        self._loaded: dict[bytes, Case] = {}

    def take(self, tally: Tally) -> Stated:
        """Take a tally, and give what must be said now.

        Raises:
            Refusal: another layout, no body, or a partition that does not exist; nothing changed.
        """
        self._check(tally)
        self._resume()
        renewed = self._keep(tally)
        reached = self._head.reached
        reached[tally.partition] = max(tally.end, reached.get(tally.partition, tally.end))
        measurements = [each for case in self._due(renewed) for each in self._state(case)]
        signals = self._signal() if measurements else []
        self._settle()
        return Stated(measurements, signals)

    def _check(self, tally: Tally) -> None:
        if tally.layout != self._judge.layout:
            raise Refusal(Reason.SCHEMA_UNKNOWN, "layout")
        if not 0 <= tally.partition < self._partitions:
            raise Refusal(Reason.NUM_RANGE, "partition")
        if tally.end <= tally.start:
            raise Refusal(Reason.NUM_RANGE, "end")
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
            if case.end > self._head.settled
            and (start in again if case.judged else self._complete(case))
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
        case.statements, new = revised(case.statements, verdict.measurements)
        case.memory, case.judged = verdict.memory, True
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
        statements = [
            statement
            for _, case in sorted(self._cases.items())
            if case.end > head.settled
            for statement in case.statements
        ]
        new = unsaid([*head.past, *signals_of(statements, standing)], head.said)
        head.said += new
        return new

    def _settle(self) -> None:
        """Let go of windows that cannot be restated any more, oldest first."""
        horizon = self._horizon()
        judged = [start for start, case in sorted(self._cases.items()) if case.judged]
        for place, start in enumerate(judged):
            case = self._cases[start]
            if case.end + self._judge.reach + 2 * case.window.length > horizon:
                for old in judged[: max(0, place - self._judge.remembers)]:
                    del self._cases[old]
                    self._changed.add(old)
                break
            if case.end > self._head.settled:
                self._close(case)

    def _close(self, case: Case) -> None:
        """Take what a window has led to into the head."""
        head = self._head
        standing = {each.topic: each for each in head.standing}
        steps, after = follow(case.statements, standing)
        names = {each.signal_id for each in after.values()}
        head.standing, head.settled = list(after.values()), case.end
        head.past = [step for step in (*head.past, *steps) if step.signal_id in names]
        head.said = [s for s in head.said if s.signal_id in names or s.start > case.start]

    def load(self, key: bytes, row: bytes | None) -> None:
        """Take one row back."""
        if key == HEAD:
            self._head = msgspec.msgpack.decode(row, type=Head) if row else Head()
        elif row is None:
            self._loaded.pop(key, None)
        else:
            self._loaded[key] = msgspec.msgpack.decode(zlib.decompress(row), type=Case)

    def _resume(self) -> None:
        """Go on with the rows that belong to the head; later ones are of a flush that failed."""
        head, loaded, self._loaded = self._head, self._loaded, {}
        for case in loaded.values():
            head.flush = max(head.flush, case.written)
            if head.kept.get(case.start) == case.written:
                self._cases[case.start] = case

    def rows(self) -> Iterable[Row]:
        """Give the rows that changed since the last call: windows, head, what may be forgotten."""
        changed, self._changed = sorted(self._changed), set()
        if not changed:
            return
        head = self._head
        head.flush += 1
        for start in changed:
            head.kept.pop(start, None)
            if start in self._cases:
                head.kept[start] = head.flush
                yield self._row(self._cases[start])
        yield HEAD, msgspec.msgpack.encode(head)
        for start in changed:
            if start not in self._cases:
                yield from ((_key_of(start, turn), None) for turn in (0, 1))
        self._lighten()

    def _row(self, case: Case) -> Row:
        """Write a window beside what was last written of it."""
        case.written, case.turn = self._head.flush, 1 - case.turn
        return _key_of(case.start, case.turn), zlib.compress(msgspec.msgpack.encode(case), 1)

    def _lighten(self) -> None:
        """Leave settled windows their memory alone; nobody will write them again."""
        for case in self._cases.values():
            if case.end <= self._head.settled:
                case.tallies, case.statements = {}, []


def _key_of(start: int, turn: int) -> bytes:
    return f"{start}.{turn}".encode()
