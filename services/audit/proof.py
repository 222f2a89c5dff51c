"""Proving a chain from its rows alone: every hash is computed anew, nothing stored is believed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from services.audit.ledger import GENESIS, Fact, Withheld, chain_id, leaf, link, rec, withheld
from services.audit.recorder import Source, trace_id

NO_ANCHOR = (
    "without seals and anchors (a later issue) a truncated tail, a chain removed as a whole and"
    " a chain whose hashes were all computed anew cannot be seen from the store alone"
)
NOT_DERIVABLE = (
    "the ledger holds no value of the PHI zone: rows of dead_letters are compared by key alone"
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ledger as it stands in the store."""

    cluster_id: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    sequence: int
    timestamp_type: int
    timestamp: int
    key: bytes | None
    header_names: Sequence[str]
    header_values: Sequence[bytes | None]
    value: bytes | None
    length: int
    sha256: bytes
    leaf: bytes
    chain: bytes
    trace_id: str

    def headers(self) -> tuple[tuple[str, bytes | None], ...]:
        """Give the headers in their order; an odd one of two unequal columns is left out."""
        return tuple(zip(self.header_names, self.header_values, strict=False))


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One place where the store is not what it must be; it quotes no value."""

    table: str
    topic: str
    partition: int
    offset: int
    sequence: int | None = None
    index: int | None = None
    what: str


class ChainProof:
    """Walks one chain from its first record, in the order of offsets."""

    def __init__(self, source: Source, partition: int) -> None:
        self._source, self._partition = source, partition
        self._sequence, self._offset, self._head = -1, -1, GENESIS

    def check(self, row: Row) -> Finding | None:
        """Hold the next record against what stands before it; go on from it as it stands."""
        faults = [*self._place(row), *self._content(row), *self._hashes(row)]
        self._sequence, self._offset, self._head = row.sequence, row.offset, row.chain
        if not faults:
            return None
        return Finding(
            table="ledger",
            topic=row.topic,
            partition=row.partition,
            offset=row.offset,
            sequence=row.sequence,
            what="; ".join(faults),
        )

    def _place(self, row: Row) -> Iterator[str]:
        if row.offset == self._offset:
            yield "the offset is there twice"
        if row.sequence != self._sequence + 1:
            yield f"sequence {self._sequence + 1} is expected"

    def _content(self, row: Row) -> Iterator[str]:
        if len(row.header_names) != len(row.header_values):
            yield "header names and values differ in number"
        if row.trace_id != trace_id(row.headers()):
            yield "trace_id is not that of the header"
        if self._source.phi:
            if row.key is not None or row.value is not None:
                yield "a record of the PHI zone has a key or a value"
        elif withheld(row.value) != Withheld(row.length, row.sha256):
            yield "length or sha256 is not that of the value"

    def _hashes(self, row: Row) -> Iterator[str]:
        value = Withheld(row.length, row.sha256) if self._source.phi else row.value
        fact = Fact(row.offset, row.timestamp_type, row.timestamp, row.key, row.headers(), value)
        try:
            place = chain_id(row.cluster_id, row.topic_id, row.partition)
        except ValueError:
            yield "topic_id is no UUID"
            return
        computed = leaf(rec(place, fact))
        if row.leaf != computed:
            yield "leaf is not that of the record"
        if row.chain != link(self._head, computed):
            yield "chain does not follow from the record before"


def compare(
    table: str, expected: Mapping[str, Sequence[Any]], stored: Mapping[str, Sequence[Any]]
) -> Iterator[Finding]:
    """Hold derived rows against what the ledger gives.

    Args:
        table: the derived table.
        expected: columns derived anew, in the order of (offset, index).
        stored: the same columns as they stand, in the same order.
    """
    names = list(expected)
    wanted = list(zip(*expected.values(), strict=True))
    found = list(zip(*(stored[name] for name in names), strict=True))
    if wanted == found:
        return
    place = [names.index(name) for name in ("topic", "partition", "offset", "index")]
    by_key = {tuple(row[i] for i in place): row for row in wanted}
    seen = set()
    for row in found:
        key = tuple(row[i] for i in place)
        what = _difference(names, by_key.get(key), row, again=key in seen)
        seen.add(key)
        if what:
            yield _finding(table, key, what)
    for key in by_key.keys() - seen:
        yield _finding(table, key, "the row is missing")


def _difference(
    names: Sequence[str], wanted: Sequence[Any] | None, found: Sequence[Any], *, again: bool
) -> str:
    if again:
        return "the row is there twice"
    if wanted is None:
        return "the ledger has no such row"
    cells = zip(names, wanted, found, strict=True)
    other = [name for name, a, b in cells if a != b and not (_is_nan(a) and _is_nan(b))]
    return f"not as in the ledger: {', '.join(other)}" if other else ""


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value  # noqa: PLR0124 - NaN alone differs from itself


def _finding(table: str, key: tuple[Any, ...], what: str) -> Finding:
    topic, partition, offset, index = key
    return Finding(
        table=table, topic=topic, partition=partition, offset=offset, index=index, what=what
    )
