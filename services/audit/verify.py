"""`vigil ledger verify`: walks every chain and every derived row of a store; changes nothing."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from services.audit.proof import NO_ANCHOR, NOT_DERIVABLE, ChainProof, Finding, Row, compare
from services.audit.recorder import Decode, Source, derived
from services.audit.rows import PACKED, TABLES, tables_of
from services.audit.writer import Store
from services.core.errors import Stop
from services.core.events import DeadLetter
from services.runtime.ports import Record

PAGE_BYTES: Final = 16 << 20
PAGE_ROWS: Final = 10_000
SHOWN: Final = 20
"""How many findings a report names; it counts all."""
IN_FLIGHT_S: Final = 5.0
"""How long a derived row may be there before its ledger row."""

_FORMATS: Final = {
    **dict.fromkeys(("key", "value", "header_values"), "bytes"),
    "timestamp": "int",
}
_PAGE: Final = (
    f"SELECT {', '.join(Row.__struct_fields__)} FROM ledger"  # noqa: S608 - names of ours
    " WHERE topic = {topic:String} AND topic_id = {topic_id:String}"
    " AND partition = {partition:Int32} AND offset > {low:Int64} AND offset <= {high:Int64}"
    " ORDER BY offset LIMIT {rows:UInt32} WITH TIES"
)
_CHAINS: Final = (
    "SELECT topic, topic_id, partition, count() AS records, max(offset) AS last,"
    " sum(greatest(length, 0)) AS bytes FROM ledger GROUP BY topic, topic_id, partition"
    " ORDER BY topic, topic_id, partition"
)
Tell = Callable[[int, int], None]
"""Told how many records of how many have been proved."""


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain as the store has it when the walk begins."""

    topic: str
    topic_id: str
    partition: int
    records: int
    last: int
    bytes: int

    @property
    def place(self) -> dict[str, Any]:
        """Parameters that name the chain."""
        return {"topic": self.topic, "topic_id": self.topic_id, "partition": self.partition}

    @property
    def page_rows(self) -> int:
        """How many records fit in a page."""
        each = self.bytes // max(self.records, 1) + 1
        return min(max(PAGE_BYTES // each, 100), PAGE_ROWS)


class Proved(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one chain."""

    topic: str
    topic_id: str
    partition: int
    records: int
    head: str
    sound: bool


class Report(msgspec.Struct, kw_only=True):
    """What was proved, what was found, and what this proof cannot see."""

    records: int = 0
    chains: list[Proved] = []
    derived_rows: dict[str, int] = {}
    findings: list[Finding] = []
    findings_total: int = 0
    not_covered: tuple[str, ...] = (NO_ANCHOR, NOT_DERIVABLE)

    def note(self, findings: Iterator[Finding]) -> int:
        """Count findings and keep the first ones."""
        before = self.findings_total
        for finding in findings:
            self.findings_total += 1
            if len(self.findings) < SHOWN:
                self.findings.append(finding)
        return self.findings_total - before


class Verifier:
    """Reads a store page by page; memory does not grow with it."""

    def __init__(
        self, store: Store, sources: Sequence[Source], decode: Decode, *, tell: Tell
    ) -> None:
        """Prepare.

        Args:
            store: what is proved.
            sources: of the contract; the topic ids are not looked at.
            decode: from bytes to an event.
            tell: hears of progress.
        """
        self._store, self._decode, self._tell = store, decode, tell
        self._sources = {source.topic: source for source in sources}
        self._known_types: dict[str, dict[str, str]] = {}

    def run(self) -> Report:
        """Prove every record that the store holds now; raises Retry when it goes away."""
        report = Report(derived_rows=dict.fromkeys(TABLES, 0))
        chains = [Chain(**row) for row in rows(self._store.query(_CHAINS))]
        total = sum(chain.records for chain in chains)
        for chain in chains:
            self._prove(chain, report, total)
        report.note(self._without_record(chains))
        return report

    def _prove(self, chain: Chain, report: Report, total: int) -> None:
        source = self._sources.get(chain.topic)
        if source is None:
            report.note(iter([_unknown(chain)]))
            return
        source = msgspec.structs.replace(source, topic_id=chain.topic_id)
        proof, found, head, low, count = ChainProof(source, chain.partition), 0, b"", -1, 0
        while low < chain.last and (page := self._page(chain, low)):
            found += report.note(f for f in map(proof.check, page) if f)
            found += self._derived(source, chain, page, low=low, report=report)
            low, head, count = page[-1].offset, page[-1].chain, count + len(page)
            report.records += len(page)
            self._tell(report.records, total)
        report.chains.append(
            Proved(
                topic=chain.topic,
                topic_id=chain.topic_id,
                partition=chain.partition,
                records=count,
                head=head.hex(),
                sound=not found,
            )
        )

    def _page(self, chain: Chain, low: int) -> list[Row]:
        asked = chain.place | {"low": low, "high": chain.last, "rows": chain.page_rows}
        found = [Row(**row) for row in rows(self._store.query(_PAGE, asked, formats=_FORMATS))]
        return sorted(found, key=lambda row: (row.offset, row.sequence))

    def _derived(
        self, source: Source, chain: Chain, page: list[Row], *, low: int, report: Report
    ) -> int:
        tables, found = tables_of(source.event), 0
        try:
            given = self._expected(source, page) if tables else {}
        except Stop:
            return report.note(iter([_unknown(chain, "a record has an unknown schema")]))
        for table in tables:
            stored = self._stored(table, chain, low=low, high=page[-1].offset)
            report.derived_rows[table] += len(stored["offset"])
            if source.event is DeadLetter:
                found += report.note(_only_keys(table, chain, page, stored))
                continue
            expected = given.get(table) or {name: [] for name in stored}
            found += report.note(compare(table, expected, stored))
        return found

    def _expected(self, source: Source, page: list[Row]) -> dict[str, dict[str, list[Any]]]:
        given: dict[str, dict[str, list[Any]]] = {}
        for row in {row.offset: row for row in page}.values():
            record = Record(
                row.topic, row.partition, row.offset, row.timestamp, row.key, row.value
            )
            for table, columns in derived(source, record, self._decode).items():
                rows_of = given.setdefault(table, {})
                for name, column in columns.items():
                    rows_of.setdefault(name, []).extend(column)
        return given

    def _stored(
        self, table: str, chain: Chain, *, low: int, high: int
    ) -> dict[str, Sequence[Any]]:
        types = self._types(table)
        formats = {name: "int" for name, kind in types.items() if "DateTime64" in kind}
        formats |= dict.fromkeys(PACKED & types.keys(), "bytes")
        return self._store.query(
            f"SELECT {', '.join(f'`{name}`' for name in types)} FROM {table}"  # noqa: S608 - names of ours
            " WHERE topic = {topic:String} AND topic_id = {topic_id:String}"
            " AND partition = {partition:Int32} AND offset > {low:Int64}"
            " AND offset <= {high:Int64} ORDER BY offset, `index`",
            chain.place | {"low": low, "high": high},
            formats=formats,
        )

    def _types(self, table: str) -> dict[str, str]:
        if table not in self._known_types:
            self._known_types[table] = self._ask_types(table)
        return self._known_types[table]

    def _ask_types(self, table: str) -> dict[str, str]:
        found = self._store.query(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase()"
            " AND table = {table:String} AND default_kind IN ('', 'DEFAULT') ORDER BY position",
            {"table": table},
        )
        return dict(zip(found["name"], found["type"], strict=True))

    def _without_record(self, chains: Sequence[Chain]) -> Iterator[Finding]:
        known = " OR ".join(
            f"(topic = '{c.topic}' AND topic_id = '{c.topic_id}' AND partition = {c.partition}"
            f" AND offset <= {c.last})"
            for c in chains
            if c.topic in self._sources
        )
        for table in TABLES:
            yield from self._still_without_record(table, known or "0")

    def _still_without_record(self, table: str, known: str) -> Iterator[Finding]:
        question = (
            f"SELECT topic, partition, offset, `index` FROM {table} WHERE NOT ({known})"  # noqa: S608 - names of ours and numbers
            " AND (topic, topic_id, partition, offset) NOT IN"
            " (SELECT topic, topic_id, partition, offset FROM ledger"
            f" WHERE NOT ({known})) ORDER BY ALL LIMIT {SHOWN}"
        )
        deadline = time.monotonic() + IN_FLIGHT_S
        while found := list(rows(self._store.query(question))):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        yield from (Finding(table=table, what="the ledger has no such record", **r) for r in found)


def rows(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Give columns row by row."""
    names = list(columns)
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(names, cells, strict=True))


def _only_keys(
    table: str, chain: Chain, page: Sequence[Row], stored: Mapping[str, Sequence[Any]]
) -> Iterator[Finding]:
    keys = list(zip(stored["offset"], stored["index"], strict=True))
    known, seen = {row.offset for row in page}, set()
    for offset, index in keys:
        what = "" if offset in known else "the ledger has no such record"
        what = "the row is there twice" if (offset, index) in seen else what
        seen.add((offset, index))
        if what:
            yield Finding(
                table=table,
                topic=chain.topic,
                partition=chain.partition,
                offset=offset,
                index=index,
                what=what,
            )


def _unknown(chain: Chain, what: str = "no such topic is in the contract") -> Finding:
    return Finding(
        table="ledger",
        topic=chain.topic,
        partition=chain.partition,
        offset=chain.last,
        what=what,
    )
