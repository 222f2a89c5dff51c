"""The shapes in which services and doors meet."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import msgspec

Headers = tuple[tuple[str, bytes | None], ...]
Row = tuple[bytes, bytes | None]
"""A key of a table and its value; None deletes the key."""


class Record(msgspec.Struct, frozen=True, gc=False):  # nothing in it can lead back to it
    """A record as a topic holds it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_type: int = 1  # as librdkafka counts: 0 none, 1 create time, 2 log append time


class Output(msgspec.Struct, frozen=True, gc=False):  # the same
    """A record to be written; without a partition the key's murmur2 chooses it."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Headers = ()


class Task(Protocol):
    """The logic and the state of one input partition; the loop owns everything around it.

    A task is deterministic: its outputs and its state are a function of the rows it was loaded
    with and the records it was handed, in order, however they were cut into batches. It never
    reads the clock. It is used by one thread and dropped when the partition is given up.
    """

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one row of the changelog, oldest first, before any record; None deletes."""

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        """Turn records of the partition, in order, into outputs.

        Outputs may be made as they are asked for: ask for all before the next call of anything. A
        record that cannot be used becomes a dead letter here. Whatever is raised ends the process:
        the transaction is given up and the next life starts from the last one committed.

        Raises:
            Stop: going on would make state wrong; the process stays down.
        """

    def changes(self) -> Iterable[Row]:
        """Give each row that changed since the last call; asked once per transaction."""


@runtime_checkable
class Settling(Protocol):
    """A task that puts off a part of its restore until it is used."""

    def settle(self) -> None:
        """Do it now, after the last row; the second time there is nothing to do."""


class Stateless:
    """The half of a task that has nothing to remember."""

    def load(self, key: bytes, value: bytes | None) -> None:
        """Nothing was ever written."""

    def changes(self) -> Iterable[Row]:
        """Nothing changed."""
        return ()
