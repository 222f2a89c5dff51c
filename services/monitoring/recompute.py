"""`vigil recompute`: the metrics of a period once more, in batch, from the records in the ledger.

The tasks are those that run live. The records of each partition go through them in their order and
give the tallies that were given live; of each window the last ones are judged, once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, Protocol

import msgspec

from services.core.events import Measurement, Tally
from services.core.windows import HOUR, Window, window_of, windows_between
from services.monitoring.counting import CountTask
from services.monitoring.differences import Difference, differences, latest, within
from services.monitoring.families import Family
from services.monitoring.judging import JudgeTask
from services.monitoring.outputs import DEAD_LETTERS, METRICS, TALLIES
from services.monitoring.past import Span
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record

NEVER: Final = -(1 << 63)
SHOWN: Final = 50
"""How many differences a report names; it counts all."""
Tell = Callable[[int, int], None]
"""Told how many records of how many went through."""


class Ledger(Protocol):
    """What this flow needs of `services.monitoring.past.Past`."""

    def partitions(self, topic: str) -> int:
        """Say how many partitions a topic has."""

    def spans(self, topic: str, period: Window, *, reach: int) -> list[Span]:
        """Find the records behind the windows of a period."""

    def records(self, span: Span) -> Iterator[list[Record]]:
        """Give them, page by page."""

    def stated(self, period: Window) -> list[Measurement]:
        """Give what stands of every window in a period."""


class Outcome(msgspec.Struct, kw_only=True):
    """What came out of one family.

    Attributes:
        statements: in order of window.
        closed_through: every partition has left the windows that end here, µs.
        entered: the end of the latest window that some partition has left, µs.
        refused: records that were dead letters.
    """

    statements: list[Measurement] = []
    closed_through: int = NEVER
    entered: int = NEVER
    refused: int = 0


class Report(msgspec.Struct, kw_only=True):
    """What was held against what, and where the two differ."""

    start: int
    end: int
    records: int = 0
    refused: int = 0
    windows_compared: int = 0
    windows_open: int = 0
    statements_live: int = 0
    statements_recomputed: int = 0
    differences: list[Difference] = []
    differences_total: int = 0


class Recompute:
    """Runs families of windows over what the ledger holds."""

    def __init__(self, past: Ledger, codec: Codec, tell: Tell) -> None:
        """Prepare.

        Args:
            past: the ledger.
            codec: for events.
            tell: hears of progress.
        """
        self._past, self._codec, self._tell = past, codec, tell
        self.records = 0

    def compare(self, families: Sequence[Family], period: Window) -> Report:
        """Hold every window of a period that is closed against what was stated of it live.

        Raises:
            Retry: the store went away.
            Stop: a record has an unknown schema.
        """
        found = self._run(families, period, whole=False)
        length = families[0].length
        windows = _closed(found, period, length)
        live = within(self._past.stated(period), windows)
        again = within((s for each in found for s in each.statements), windows)
        told = list(differences(live, again))
        return Report(
            start=period.start,
            end=period.end,
            records=self.records,
            refused=sum(each.refused for each in found),
            windows_compared=len(windows),
            windows_open=_open(found, period, length),
            statements_live=len(latest(live)),
            statements_recomputed=len(latest(again)),
            differences=told[:SHOWN],
            differences_total=len(told),
        )

    def whole(self, families: Sequence[Family], period: Window) -> list[Measurement]:
        """Give the measurements of one window that is the whole period; raises as `compare`."""
        found = self._run(families, period, whole=True)
        statements = (s for each in found for s in each.statements)
        return list(latest(within(statements, [period])).values())

    def _run(self, families: Sequence[Family], period: Window, *, whole: bool) -> list[Outcome]:
        spans = {
            family.name: self._spans(family, period, 0 if whole else family.judge.remembers + 1)
            for family in families
        }
        total = sum(span.records for each in spans.values() for span in each)
        return [
            self._family(family, spans[family.name], total=total, flush=whole)
            for family in families
            if spans[family.name]
        ]

    def _spans(self, family: Family, period: Window, earlier: int) -> list[Span]:
        since = Window(period.start - earlier * family.length, period.end)
        return self._past.spans(family.topic, since, reach=family.judge.reach + HOUR)

    def _family(
        self, family: Family, spans: Iterable[Span], *, total: int, flush: bool
    ) -> Outcome:
        tallies: dict[tuple[int, int], Output] = {}
        outcome, told = Outcome(), dict[int, int]()
        for span in spans:
            for output in self._count(family, span, total=total, flush=flush):
                outcome.refused += output.topic == DEAD_LETTERS
                if output.topic == TALLIES:
                    tally = self._codec.decode(output.value or b"", Tally)
                    tallies[tally.start, tally.partition] = output
                    told[tally.partition] = max(tally.end, told.get(tally.partition, NEVER))
        partitions = self._past.partitions(family.topic)
        outcome.closed_through = min(told.values()) if len(told) == partitions else NEVER
        outcome.entered = max(told.values(), default=NEVER)
        outcome.statements = self._judge(family, partitions, tallies)
        return outcome

    def _count(self, family: Family, span: Span, *, total: int, flush: bool) -> Iterator[Output]:
        task = CountTask(family.fold(span.partition), family.event, self._codec)
        for page in self._past.records(span):
            yield from task.handle(page)
            self.records += len(page)
            self._tell(self.records, total)
        if flush:
            yield from task.flush()

    def _judge(
        self, family: Family, partitions: int, tallies: Mapping[tuple[int, int], Output]
    ) -> list[Measurement]:
        """Judge each window once: what stands in the end follows from its last tallies alone."""
        task = JudgeTask([family.judge], partitions, self._codec)
        records = (
            Record(TALLIES, 0, number, 0, tally.key, tally.value)
            for number, (_, tally) in enumerate(sorted(tallies.items(), key=itemgetter(0)))
        )
        return [
            self._codec.decode(said.value or b"", Measurement)
            for record in records
            for said in task.handle([record])
            if said.topic == METRICS
        ]


def _closed(found: Sequence[Outcome], period: Window, length: int) -> list[Window]:
    """Windows of a period that every partition of every family has left."""
    until = min((each.closed_through for each in found), default=NEVER)
    return list(_windows(period, length, until))


def _open(found: Sequence[Outcome], period: Window, length: int) -> int:
    """Count the windows of a period that were entered and are not closed."""
    entered = max((each.entered for each in found), default=NEVER)
    return len(list(_windows(period, length, entered + length))) - len(
        _closed(found, period, length)
    )


def _windows(period: Window, length: int, until: int) -> Iterator[Window]:
    first = window_of(period.start + length - 1, length).start
    return windows_between(first, min(period.end, until), length)
