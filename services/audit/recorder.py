"""From records to the rows of one block: each is chained, and what people query is derived."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final

import msgspec
import numpy as np

from services.audit.ledger import GENESIS, Fact, chain_id, leaf, link, rec, withheld
from services.audit.rows import Columns, tables_of
from services.core.errors import Refusal, Retry
from services.runtime.ports import Headers, Record

Chain = tuple[str, int]
"""A topic's UUID and a partition."""
Key = tuple[str, int, int, int]
"""Of a derived row: topic's UUID, partition, offset, index."""
Decode = Callable[[bytes, type[msgspec.Struct]], msgspec.Struct]
"""As `Codec.decode`: raises Refusal for a malformed event, Stop for an unknown schema."""

_TRACEPARENT_PARTS: Final = 4


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as the ledger takes it in."""

    topic: str
    topic_id: str
    phi: bool
    event: type[msgspec.Struct] | None


class Head(msgspec.Struct, frozen=True):
    """The last record of a chain."""

    offset: int
    sequence: int
    chain: bytes


START: Final = Head(-1, -1, GENESIS)
"""The head of a chain that has no record."""


LEDGER: Final = (
    "cluster_id",
    "topic",
    "topic_id",
    "partition",
    "offset",
    "sequence",
    "timestamp_type",
    "timestamp",
    "key",
    "header_names",
    "header_values",
    "value",
    "length",
    "sha256",
    "leaf",
    "chain",
    "trace_id",
)
"""The columns of the ledger."""


class Rows:
    """The rows of one table, gathered in its columns."""

    def __init__(self, names: Sequence[str]) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in names}
        self._cells = tuple(self._columns.values())
        self._in_order = itemgetter(*names)

    def add(self, row: tuple[Any, ...]) -> None:
        """Take a row, its cells in the order of the names."""
        for cells, cell in zip(self._cells, row, strict=True):
            cells.append(cell)

    def extend(self, columns: Columns) -> None:
        """Take the rows of columns of these names."""
        for cells, more in zip(self._cells, self._in_order(columns), strict=True):
            cells.extend(more)

    def columns(self) -> Columns:
        """Give all rows as columns."""
        return dict(self._columns)


class Block(msgspec.Struct, frozen=True):
    """Rows that go to the store together: first the derived ones, then the ledger's."""

    derived: Mapping[str, Columns]
    ledger: Columns

    def ledger_parts(self) -> list[Columns]:
        """Cut the ledger's rows so that each part lies in one month, and each chain in order.

        The store takes in the rows of one month together or not at all. Were a block of two
        months cut off, a chain could have a hole below its head.
        """
        if not self.ledger["timestamp"]:
            return []
        months = np.array(self.ledger["timestamp"], "datetime64[ms]").astype("datetime64[M]")
        cuts = [0, *(np.flatnonzero(months[1:] != months[:-1]) + 1).tolist(), len(months)]
        return [
            {name: column[start:stop] for name, column in self.ledger.items()}
            for start, stop in pairwise(cuts)
        ]


class Recorder:
    """Holds the heads of all chains and the rows that were not taken yet."""

    def __init__(
        self,
        cluster_id: str,
        sources: Mapping[str, Source],
        *,
        heads: Mapping[Chain, Head],
        held: Mapping[str, set[Key]],
        decode: Decode,
    ) -> None:
        """Go on where the store stands.

        Args:
            cluster_id: Kafka's name of the cluster.
            sources: by name of the topic.
            heads: what the ledger holds, per chain.
            held: per derived table, keys of rows beyond those heads: they are there already.
            decode: from bytes to an event.
        """
        self._cluster_id, self._sources, self._decode = cluster_id, sources, decode
        self._heads = dict(heads)
        self._held = {table: set(keys) for table, keys in held.items() if keys}
        self._chain_ids: dict[Chain, bytes] = {}
        self._clear()

    def add(self, records: Sequence[Record]) -> None:
        """Take records in, each partition's in their order, none twice.

        Raises:
            Retry: a record was given before, or is of a topic that was made anew meanwhile.
            Stop: a message has a schema that is not known here.
        """
        for record in records:
            source = self._sources[record.topic]
            self._derive(source, record)
            self._record(source, record)

    def take(self) -> Block:
        """Give what came in since the last call."""
        derived = {table: rows.columns() for table, rows in self._derived.items()}
        block = Block(derived, self._ledger.columns())
        self._clear()
        return block

    def _clear(self) -> None:
        self._derived: dict[str, Rows] = {}
        self._ledger = Rows(LEDGER)
        self.rows = 0
        self.bytes = 0

    def _record(self, source: Source, record: Record) -> None:
        value, headers = record.value, record.headers
        digest = withheld(value)
        key = None if source.phi else record.key
        fact = Fact(
            record.offset,
            record.timestamp_type,
            record.timestamp_ms,
            key,
            headers,
            digest if source.phi else value,
        )
        chain = (source.topic_id, record.partition)
        head = self._heads.get(chain, START)
        if record.offset <= head.offset:
            raise Retry(f"Kafka: offsets of {source.topic} went back; was the topic made anew?")
        leaf_hash = leaf(rec(self._chain_id(chain), fact))
        head = Head(record.offset, head.sequence + 1, link(head.chain, leaf_hash))
        self._heads[chain] = head
        self._ledger.add(
            (
                self._cluster_id,
                source.topic,
                source.topic_id,
                record.partition,
                record.offset,
                head.sequence,
                record.timestamp_type,
                record.timestamp_ms,
                key,
                [name for name, _ in headers],
                [value for _, value in headers],
                None if source.phi else value,
                digest.length,
                digest.sha256,
                leaf_hash,
                head.chain,
                trace_id(headers) if headers else "",
            )
        )
        self.rows += 1
        self.bytes += digest.length if value else 0

    def _chain_id(self, chain: Chain) -> bytes:
        if chain not in self._chain_ids:
            self._chain_ids[chain] = chain_id(self._cluster_id, *chain)
        return self._chain_ids[chain]

    def _derive(self, source: Source, record: Record) -> None:
        for table, columns in derived(source, record, self._decode).items():
            lacking = self._missing(table, columns) if table in self._held else columns
            if table not in self._derived:
                self._derived[table] = Rows(tuple(lacking))
            self._derived[table].extend(lacking)
            self.rows += len(lacking["index"])

    def _missing(self, table: str, columns: Columns) -> Columns:
        names = ("topic_id", "partition", "offset", "index")
        keys = zip(*(columns[name] for name in names), strict=True)
        wanted = [at for at, key in enumerate(keys) if key not in self._held[table]]
        return {name: [column[at] for at in wanted] for name, column in columns.items()}


def derived(source: Source, record: Record, decode: Decode) -> dict[str, Columns]:
    """Give the rows that come of a record, by table; nothing for a record that has none.

    Raises:
        Stop: the message has a schema that is not known here.
    """
    tables = tables_of(source.event)
    if source.event is None or not tables or record.value is None:
        return {}
    try:
        event = decode(record.value, source.event)
        found = {table: rows_of(event) for table, rows_of in tables.items()}
    except Refusal:
        return {}  # the ledger keeps it as it is; whoever wrote it has a bug that others report
    return {table: _placed(source, record, columns) for table, columns in found.items()}


def _placed(source: Source, record: Record, columns: Columns) -> Columns:
    count = len(next(iter(columns.values())))
    place: Columns = {
        "topic": [source.topic] * count,
        "topic_id": [source.topic_id] * count,
        "partition": [record.partition] * count,
        "offset": [record.offset] * count,
        "index": list(range(count)),
        "timestamp": [record.timestamp_ms] * count,
    }
    return place | columns


def trace_id(headers: Headers) -> str:
    """Give the trace id of a W3C `traceparent` header; empty when there is none."""
    for name, value in headers:
        if name == "traceparent" and value is not None:
            parts = value.decode("ascii", "replace").split("-")
            return parts[1] if len(parts) >= _TRACEPARENT_PARTS else ""
    return ""
