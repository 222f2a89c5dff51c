"""`vigil ledger rebuild`: gives records of the ledger the rows that a derived table lacks of them.

A table that came later has no rows of the records before it. They follow from the ledger, and are
appended; no row that is there is looked at twice, changed or removed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from services.audit.recorder import Decode, Source, derived
from services.audit.rows import tables_of
from services.audit.writer import Store
from services.core.events import DeadLetter
from services.runtime.ports import Record

PAGE: Final = 50_000
"""Records whose rows are looked for at once."""
BATCH: Final = 500
"""Records that are read and derived at once; each event has hundreds of rows at most."""
_CHAINS: Final = (
    "SELECT topic, topic_id, partition FROM ledger"
    " GROUP BY topic, topic_id, partition ORDER BY topic, topic_id, partition"
)
_OF_CHAIN: Final = (
    " topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:Int32}"
)
_OFFSETS: Final = (
    f"SELECT DISTINCT offset FROM ledger WHERE {_OF_CHAIN} AND length >= 0"  # noqa: S608 - words of ours
    " AND offset > {low:Int64} ORDER BY offset LIMIT {many:UInt32}"
)
_RECORDS: Final = (
    f"SELECT DISTINCT offset, timestamp, value FROM ledger WHERE {_OF_CHAIN}"  # noqa: S608 - words of ours
    " AND offset IN {offsets:Array(Int64)} ORDER BY offset"
)
_FORMATS: Final = {"value": "bytes", "timestamp": "int"}

Tell = Callable[[Mapping[str, int]], None]
"""Told after each batch how many rows each table got so far."""


class Lack(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets of a page of a chain whose records have no row in tables of theirs."""

    topic: str
    topic_id: str
    partition: int
    tables: dict[str, set[int]]

    @property
    def place(self) -> dict[str, Any]:
        """Parameters that name the chain."""
        return {"topic": self.topic, "topic_id": self.topic_id, "partition": self.partition}


def lacking(store: Store, sources: Mapping[str, Source]) -> Iterator[Lack]:
    """Look which records have no row in a table that is derived from their event.

    The audit service puts derived rows in before the ledger's: what the ledger is asked for first
    has its rows already, if this version wrote it. A record that gives no rows, as one that nobody
    can read, is named each time.

    Raises:
        Retry: no answer.
    """
    for topic, topic_id, partition in _rows(
        store.query(_CHAINS), "topic", "topic_id", "partition"
    ):
        if tables := _rebuildable(sources.get(topic)):
            place = {"topic": topic, "topic_id": topic_id, "partition": partition}
            yield from _of_chain(store, place, tables)


def rebuild(
    store: Store, sources: Mapping[str, Source], decode: Decode, *, tell: Tell = lambda _: None
) -> Counter[str]:
    """Append what is lacking, and say how many rows each table got.

    The rows of one record go in together, so whoever is cut off begins again and appends the rest.

    Raises:
        Retry: no answer, or rows were not taken.
        Stop: a record has a schema that is not known here.
    """
    got = Counter[str]()
    for lack in lacking(store, sources):
        source = msgspec.structs.replace(sources[lack.topic], topic_id=lack.topic_id)
        every = sorted(set[int]().union(*lack.tables.values()))
        for start in range(0, len(every), BATCH):
            some = every[start : start + BATCH]
            for table, columns in _derive(store, lack, source, some, decode).items():
                store.insert(table, columns)
                got[table] += len(columns["offset"])
            tell(got)
    return got


def _rebuildable(source: Source | None) -> list[str]:
    """Name the tables that follow from what the ledger holds of a topic."""
    if source is None or source.phi or source.event is DeadLetter:
        return []
    return list(tables_of(source.event))


def _of_chain(store: Store, place: dict[str, Any], tables: Sequence[str]) -> Iterator[Lack]:
    low = -1
    while offsets := _offsets(store, _OFFSETS, place | {"low": low, "many": PAGE}):
        reach = place | {"low": low, "high": max(offsets)}
        found = {table: offsets - _held(store, table, reach) for table in tables}
        if lacks := {table: without for table, without in found.items() if without}:
            yield Lack(**place, tables=lacks)
        low = max(offsets)


def _held(store: Store, table: str, reach: dict[str, Any]) -> set[int]:
    question = (
        f"SELECT DISTINCT offset FROM {table} WHERE {_OF_CHAIN}"  # noqa: S608 - names of ours
        " AND offset > {low:Int64} AND offset <= {high:Int64}"
    )
    return _offsets(store, question, reach)


def _offsets(store: Store, question: str, parameters: Mapping[str, Any]) -> set[int]:
    return set(store.query(question, parameters)["offset"])


def _derive(
    store: Store, lack: Lack, source: Source, offsets: list[int], decode: Decode
) -> dict[str, dict[str, list[Any]]]:
    """Derive the rows of some records, for the tables that lack them."""
    asked = lack.place | {"offsets": offsets}
    found = store.query(_RECORDS, asked, formats=_FORMATS)
    given: dict[str, dict[str, list[Any]]] = {}
    for offset, timestamp, value in _rows(found, "offset", "timestamp", "value"):
        record = Record(lack.topic, lack.partition, offset, timestamp, None, value)
        for table, columns in derived(source, record, decode).items():
            if offset in lack.tables.get(table, ()):
                rows = given.setdefault(table, {})
                for name, column in columns.items():
                    rows.setdefault(name, []).extend(column)
    return given


def _rows(columns: Mapping[str, Sequence[Any]], *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(columns[name] for name in names), strict=True)
