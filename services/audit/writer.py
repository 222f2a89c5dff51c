"""The door to the store: what it holds when a life begins, and blocks that go in."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from services.audit.recorder import START, Block, Chain, Head, Key
from services.audit.rows import TABLES
from services.core.errors import Retry

BETWEEN_LOOKS_S: Final = 0.2
_HEADS: Final = (
    "SELECT topic_id, partition, offset, sequence, chain FROM ledger"
    " WHERE (topic, topic_id, partition, offset) IN"
    " (SELECT topic, topic_id, partition, max(offset) FROM ledger"
    " GROUP BY topic, topic_id, partition)"
    " ORDER BY sequence"
)
_INSERTS: Final = (
    "SELECT count() AS running FROM system.processes"
    " WHERE query_kind = 'Insert' AND current_database = currentDatabase()"
)


class Store(Protocol):
    """What this service needs of `services.runtime.clickhouse.ClickHouse`."""

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append rows."""

    def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        formats: Mapping[str, str] | None = None,
    ) -> dict[str, Sequence[Any]]:
        """Ask."""


def write(store: Store, block: Block) -> None:
    """Put a block into the store: the ledger last, since its rows say that all of it is there.

    Raises:
        Retry: part of the block may be in; the next life looks at what the store holds.
        Stop: the tables are not those of this program.
    """
    for table, columns in block.derived.items():
        store.insert(table, columns)
    for part in block.ledger_parts():
        store.insert("ledger", part)


def await_former_life(store: Store, *, looks: int, wait: Any) -> None:
    """Wait until no insert runs any more that an earlier life of this process had sent.

    Args:
        store: the store.
        looks: how often to look, at most.
        wait: called with seconds between two looks.

    Raises:
        Retry: one still runs.
    """
    for _ in range(looks):
        if not store.query(_INSERTS)["running"][0]:
            return
        wait(BETWEEN_LOOKS_S)
    raise Retry("ClickHouse: an insert of an earlier life still runs")


def heads(store: Store) -> dict[Chain, Head]:
    """Ask for the last record of each chain that the ledger holds.

    Raises:
        Retry: no answer.
    """
    found = store.query(_HEADS)
    names = ("topic_id", "partition", "offset", "sequence", "chain")
    rows = zip(*(found.get(name, ()) for name in names), strict=True)
    return {(topic_id, p): Head(offset, sequence, h) for topic_id, p, offset, sequence, h in rows}


def held_beyond(
    store: Store, chains: Mapping[Chain, str], known: Mapping[Chain, Head]
) -> dict[str, set[Key]]:
    """List derived rows of records that the ledger does not hold: a block that was cut off.

    Args:
        store: the store.
        chains: every chain that is read, with its topic.
        known: the ledger's heads.

    Returns:
        Keys per derived table.

    Raises:
        Retry: no answer.
    """
    beyond = " OR ".join(
        f"(topic = '{topic}' AND topic_id = '{topic_id}' AND partition = {partition}"
        f" AND offset > {known.get((topic_id, partition), START).offset})"
        for (topic_id, partition), topic in sorted(chains.items())
    )
    return {table: _keys(store, table, beyond) for table in TABLES}


def _keys(store: Store, table: str, beyond: str) -> set[Key]:
    found = store.query(
        f"SELECT topic_id, partition, offset, `index` FROM {table} WHERE {beyond}"  # noqa: S608 - names of ours and numbers
    )
    names = ("topic_id", "partition", "offset", "index")
    return set(zip(*(found.get(name, ()) for name in names), strict=True))
