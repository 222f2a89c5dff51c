"""The door to what was found: states, signals, and what else happened at the time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from services.core.events import Measurement
from services.core.windows import DAY, Window

Row = TypeVar("Row")

BEFORE: Final = 3 * DAY
"""How far back the mix of a window is compared, and changes count as near."""
_NOTABLE: Final = 0.05
_STATED: Final = (
    f"SELECT {', '.join(Measurement.__struct_fields__)} FROM measurements_now"  # noqa: S608 - names of ours
    " WHERE metric = 'drift' AND start >= fromUnixTimestamp64Micro({since:Int64})"
    " AND start < fromUnixTimestamp64Micro({until:Int64})"
    " ORDER BY start, cohort != 'all', cohort, feature"
)
_STEPS: Final = (
    "SELECT DISTINCT signal_id, step, severity, feature, cohort, start, end, summary FROM signals"
    " WHERE metric = 'drift' AND signal_id = {signal:String} ORDER BY start"
)
_OPEN: Final = (
    "SELECT signal_id, step, severity, feature, cohort, start, end, summary FROM signals_open"
    " WHERE metric = 'drift' ORDER BY start, signal_id"
)
_CHANGES: Final = (
    "SELECT kind, subject, effective_from, approved_by, reason FROM changes"
    " WHERE effective_from >= fromUnixTimestamp64Micro({since:Int64})"
    " AND effective_from < fromUnixTimestamp64Micro({until:Int64}) AND kind != 'access'"
    " ORDER BY effective_from"
)
_SPLIT: Final = (
    " countIf(at >= fromUnixTimestamp64Micro({start:Int64})) AS now,"
    " countIf(at < fromUnixTimestamp64Micro({start:Int64})) AS before"
)
_SPAN: Final = (
    " at >= fromUnixTimestamp64Micro({since:Int64}) AND at < fromUnixTimestamp64Micro({end:Int64})"
)
_MIX: Final = (
    f"SELECT $PART AS name, {_SPLIT} FROM"  # noqa: S608 - as above
    " (SELECT measured_at AS at, source,"
    " arrayJoin(arrayZip(variable_names, units, codes, devices)) AS reading"
    f" FROM vitals WHERE kind = 'observation' AND {_SPAN})"
    " WHERE reading.1 = {variable:String} GROUP BY name"
)
_PARTS: Final = {
    "unit": "reading.2",
    "code": "reading.3",
    "device": "reading.4",
    "site": "source",
}
_REFUSED: Final = (
    f"SELECT if(fate = 'dead', detail, '') AS name, {_SPLIT} FROM"  # noqa: S608 - as above
    f" (SELECT received_at AS at, fate, detail FROM receipts WHERE {_SPAN}) GROUP BY name"
)
_TIMES: Final = {"start": "int", "end": "int"}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step in the life of a signal; times in µs."""

    signal_id: str
    step: str
    severity: str
    feature: str
    cohort: str
    start: int
    end: int
    summary: str


class Near(msgspec.Struct, frozen=True, kw_only=True):
    """A change that people made near a window; time in µs."""

    kind: str
    subject: str
    effective_from: int
    approved_by: str
    reason: str


class Share(NamedTuple):
    """How much of something had a name: in the window, and in the days before it, 0 to 1."""

    what: str
    name: str
    now: float
    before: float


class Store(Protocol):
    """What this door needs of `services.runtime.clickhouse.ClickHouse`."""

    def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        formats: Mapping[str, str] | None = None,
    ) -> dict[str, Sequence[Any]]:
        """Ask and take the whole answer; raises Retry."""
        ...


class Findings:
    """Asks a store what was found; every method raises Retry when it goes away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def stated(self, period: Window) -> list[Measurement]:
        """Give what stands of drift in each window that begins in a period, in order."""
        asked = {"since": period.start, "until": period.end}
        return _each(self._store.query(_STATED, asked, formats=_TIMES), Measurement)

    def open_signals(self) -> list[Step]:
        """Give the last step of each signal of drift that is open."""
        return _each(self._store.query(_OPEN, formats=_TIMES), Step)

    def steps(self, signal_id: str) -> list[Step]:
        """Give the steps of a signal of drift, in order of window; none if there is none."""
        return _each(self._store.query(_STEPS, {"signal": signal_id}, formats=_TIMES), Step)

    def changes(self, window: Window) -> list[Near]:
        """Give what people changed from some days before a window to its end."""
        asked = {"since": window.start - BEFORE, "until": window.end}
        return _each(self._store.query(_CHANGES, asked, formats={"effective_from": "int"}), Near)

    def mix(self, window: Window, variable: str) -> list[Share]:
        """Give what has another share in a window than in the days before it.

        Units, codes, devices and sites of the variable, and reasons for which anything was
        refused.
        """
        asked = {"since": window.start - BEFORE, **window._asdict()}
        found = []
        for what, part in _PARTS.items():
            statement = _MIX.replace("$PART", part)
            found += _shares(what, self._store.query(statement, asked | {"variable": variable}))
        return found + _shares("refused", self._store.query(_REFUSED, asked))


def _shares(what: str, counts: Mapping[str, Sequence[Any]]) -> list[Share]:
    """Shares that moved by five in a hundred, or of refusals from one to twice as much."""
    whole = [max(sum(counts[column]), 1) for column in ("now", "before")]
    each = [
        Share(what, name, now / whole[0], before / whole[1])
        for name, now, before in zip(counts["name"], counts["now"], counts["before"], strict=True)
        if name
    ]
    known = all(sum(counts[column]) for column in ("now", "before"))
    return sorted(share for share in each if known and _notable(share))


def _notable(share: Share) -> bool:
    if share.what == "refused":
        return share.now > 2 * share.before and share.now > _NOTABLE / 50
    return abs(share.now - share.before) >= _NOTABLE


def _each(columns: Mapping[str, Sequence[Any]], kind: type[Row]) -> list[Row]:
    names = list(columns)
    rows: Iterator[tuple[Any, ...]] = zip(*columns.values(), strict=True)
    return [msgspec.convert(dict(zip(names, row, strict=True)), kind) for row in rows]
