"""State that survives: a changelog topic, written in the transaction that changes the state."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from services.runtime.kafka.client import Options
from services.runtime.kafka.reader import Partition, Reader, ends
from services.runtime.ports import Record, Row, Settling, Task

PATIENCE_S: Final = 30.0
"""How long an open transaction of a dead instance may hold up a restore."""


def restore(options: Options, changelog: str, tasks: Mapping[int, Task]) -> int:
    """Load tasks from their changelog partitions, and say how many rows that were.

    Args:
        options: of the cluster.
        changelog: the topic; its partition number is that of the task.
        tasks: per partition number the fresh task to load.

    Raises:
        Retry: as `written` does.
    """
    rows = 0
    for record in written(options, [(changelog, partition) for partition in tasks]):
        tasks[record.partition].load(record.key or b"", record.value)
        rows += 1
    for task in tasks.values():
        if isinstance(task, Settling):
            # Later a transaction is open, and one that is too old is given up by the broker: on a
            # busy machine by this and the next life, and the one after it.
            task.settle()
    return rows


def written(options: Options, partitions: list[Partition]) -> Iterator[Record]:
    """Read the rows of changelog partitions, oldest first.

    Call it after the group's stable offsets were taken and before anything is consumed. It reads
    committed rows up to the *high watermark* of this moment, not to the last stable offset: the
    rows behind a committed offset are in the log already, while their commit marker may still be
    on its way.

    Raises:
        Retry: no row and no end came for PATIENCE_S.
    """
    goals = ends(options, partitions)
    reader = Reader(options, dict.fromkeys(goals, 0))
    try:
        yield from reader.until(goals, patience_s=PATIENCE_S)
    finally:
        reader.close()


class Table:
    """A dictionary that remembers which of its rows changed.

    >>> table = Table()
    >>> table[b"a"] = b"1"
    >>> list(table.changes()), list(table.changes())
    ([(b'a', b'1')], [])
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._changed: dict[bytes, None] = {}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one row of the changelog; None deletes."""
        if value is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = value

    def get(self, key: bytes) -> bytes | None:
        """Give the row of a key, or None."""
        return self._rows.get(key)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._rows[key] = value
        self._changed[key] = None

    def __delitem__(self, key: bytes) -> None:
        del self._rows[key]
        self._changed[key] = None

    def changes(self) -> Iterable[Row]:
        """Give each row that changed since the last call, in the order of first change."""
        changed, self._changed = self._changed, {}
        return [(key, self._rows.get(key)) for key in changed]
