"""The door to the past: what the ledger holds of a period, and what was stated of it."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec

from services.core.events import Measurement
from services.core.windows import Window
from services.monitoring.baselines import KIND
from services.monitoring.outputs import LABELLED, PREDICTIONS
from services.runtime.ports import Record

CHANGES: Final = "changes.v1"
PAGE_BYTES: Final = 8 << 20
PAGE_RECORDS: Final = 5_000
DERIVED: Final = {PREDICTIONS: ("predictions", "measured_at"), LABELLED: ("labels", "hour")}
"""Per topic its derived table, and the column that says which window a row counts in."""

_TOPIC_ID: Final = (
    "SELECT topic_id FROM ledger WHERE topic = {topic:String}"
    " GROUP BY topic_id ORDER BY max(timestamp) DESC LIMIT 1"
)
_PARTITIONS: Final = (
    "SELECT max(partition) + 1 AS n FROM ledger"
    " WHERE topic = {topic:String} AND topic_id = {topic_id:String}"
)
_OFFSETS: Final = (
    "SELECT partition,"
    " minOrNullIf(offset, at >= {since:Int64} AND at < {until:Int64}) AS first,"
    " maxOrNullIf(offset, clock < {since:Int64}) AS before,"
    " minOrNullIf(offset, clock >= {closed:Int64}) AS after,"
    " max(offset) AS last"
    " FROM (SELECT partition, offset, toUnixTimestamp64Micro($AT) AS at,"
    " ifNull(toUnixTimestamp64Micro(watermark), {never:Int64}) AS clock FROM $TABLE"
    " WHERE topic = {topic:String} AND topic_id = {topic_id:String})"
    " GROUP BY partition ORDER BY partition"
)
_EXTENT: Final = (
    "SELECT min(first) AS first, min(last) AS last FROM"
    " (SELECT min(toUnixTimestamp64Micro(watermark)) AS first,"
    " max(toUnixTimestamp64Micro(watermark)) AS last FROM $TABLE"
    " WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND watermark IS NOT NULL"
    " GROUP BY partition)"
)
_WEIGHT: Final = (
    "SELECT count() AS records, sum(greatest(length, 0)) AS bytes FROM ledger"
    " WHERE topic = {topic:String} AND topic_id = {topic_id:String}"
    " AND partition = {partition:Int32} AND offset > {after:Int64} AND offset <= {last:Int64}"
)
_PAGE: Final = (
    "SELECT offset, toUnixTimestamp64Milli(timestamp) AS at, key, value FROM ledger"
    " WHERE topic = {topic:String} AND topic_id = {topic_id:String}"
    " AND partition = {partition:Int32} AND offset > {after:Int64} AND offset <= {last:Int64}"
    " ORDER BY offset LIMIT {rows:UInt32}"
)
_BASELINES: Final = (
    "SELECT value FROM ledger WHERE topic = {topic:String} AND topic_id = {topic_id:String}"
    " AND (partition, offset) IN (SELECT partition, offset FROM changes"
    " WHERE topic_id = {topic_id:String} AND kind = {kind:String}) ORDER BY partition, offset"
)
_STATED: Final = (
    f"SELECT {', '.join(Measurement.__struct_fields__)} FROM measurements_now"  # noqa: S608 - names of ours
    " WHERE start >= fromUnixTimestamp64Micro({start:Int64})"
    " AND end <= fromUnixTimestamp64Micro({end:Int64})"
)
_NEVER: Final = -(1 << 63)


class Store(Protocol):
    """What this door needs of `services.runtime.clickhouse.ClickHouse`."""

    def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        formats: Mapping[str, str] | None = None,
    ) -> dict[str, Sequence[Any]]:
        """Ask."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one partition that lie one behind the other: after `after`, up to `last`."""

    topic: str
    topic_id: str
    partition: int
    after: int
    last: int
    records: int
    bytes: int

    @property
    def page_records(self) -> int:
        """How many records fit in a page."""
        each = self.bytes // max(self.records, 1) + 1
        return min(max(PAGE_BYTES // each, 10), PAGE_RECORDS)


class Past:
    """Reads a store page by page; every method raises Retry when it goes away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def partitions(self, topic: str) -> int:
        """Say how many partitions a topic has; 0 when the ledger holds no record of it."""
        return int(self._ask(_PARTITIONS, topic).get("n", [0])[0])

    def extent(self, topic: str) -> Window | None:
        """Say from which watermark to which every partition of a topic has come, µs."""
        found = self._ask(_EXTENT.replace("$TABLE", DERIVED[topic][0]), topic)
        if not found.get("first") or found["first"][0] is None:
            return None
        return Window(found["first"][0], found["last"][0])

    def spans(self, topic: str, period: Window, *, reach: int) -> list[Span]:
        """Find the records behind the windows of a period.

        They begin before the watermark enters the period, so that lateness is judged as it was,
        and end where nothing of it can be restated any more.

        Args:
            topic: of DERIVED.
            period: µs.
            reach: how long after its end a window is restated and that is told, µs.
        """
        table, at = DERIVED[topic]
        asked = {"since": period.start, "until": period.end, "closed": period.end + reach}
        statement = _OFFSETS.replace("$TABLE", table).replace("$AT", at)
        found = self._ask(statement, topic, asked | {"never": _NEVER})
        names = ("partition", "first", "before", "after", "last")
        rows = zip(*(found[name] for name in names), strict=True)
        return [
            self._span(topic, partition, _after(first, before), last if end is None else end)
            for partition, first, before, end, last in rows
        ]

    def records(self, span: Span) -> Iterator[list[Record]]:
        """Give the records of a span as they were, in order, page by page."""
        after, formats = span.after, {"key": "bytes", "value": "bytes"}
        while after < span.last:
            asked = {"after": after, "last": span.last, "rows": span.page_records}
            asked |= {"partition": span.partition}
            found = self._ask(_PAGE, span.topic, asked, formats=formats)
            names = ("offset", "at", "key", "value")
            cells = zip(*(found[name] for name in names), strict=True)
            page = [Record(span.topic, span.partition, *row) for row in cells]
            if not page:
                return
            after = page[-1].offset
            yield page

    def baselines(self) -> list[bytes]:
        """Give the changes that put baselines into use, as they were, in order."""
        found = self._ask(_BASELINES, CHANGES, {"kind": KIND}, formats={"value": "bytes"})
        return [value for value in found["value"] if value is not None]

    def stated(self, period: Window) -> list[Measurement]:
        """Give what stands of every window in a period."""
        found = self._store.query(
            _STATED, period._asdict(), formats={"start": "int", "end": "int"}
        )
        rows = zip(*(found[n] for n in Measurement.__struct_fields__), strict=True)
        return [
            msgspec.convert(
                dict(zip(Measurement.__struct_fields__, row, strict=True)), Measurement
            )
            for row in rows
        ]

    def _span(self, topic: str, partition: int, after: int, last: int) -> Span:
        place = {"partition": partition, "after": after, "last": last}
        weight = self._ask(_WEIGHT, topic, place)
        return Span(
            topic=topic,
            topic_id=self._topic_id(topic),
            **place,
            records=weight["records"][0],
            bytes=weight["bytes"][0],
        )

    def _ask(
        self,
        statement: str,
        topic: str,
        asked: Mapping[str, Any] = MappingProxyType({}),
        *,
        formats: Mapping[str, str] | None = None,
    ) -> dict[str, Sequence[Any]]:
        place = {"topic": topic, "topic_id": self._topic_id(topic)}
        return self._store.query(statement, place | dict(asked), formats=formats)

    def _topic_id(self, topic: str) -> str:
        """Of a topic that was made anew the ledger holds several lives; the last one counts."""
        found = self._store.query(_TOPIC_ID, {"topic": topic})["topic_id"]
        return found[0] if found else ""


def _after(first: int | None, before: int | None) -> int:
    """Give the offset behind which to begin; without an earlier watermark that is the start."""
    if before is None:
        return -1
    return min(before, before if first is None else first) - 1
