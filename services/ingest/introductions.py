"""Whom identity.v1 was told of: a pseudonym is introduced once a day, not with every record."""

import struct
from collections.abc import Iterable
from typing import Final

from services.runtime.ports import Row

PREFIX: Final = b"\x00"
"""Begins the keys of these rows in ingest's changelog; no name of a source begins so."""
DAY_US: Final = 86_400_000_000
_STAMP: Final = struct.Struct(">qi")

Stamp = tuple[int, int]
"""A day since 1970 and the epoch of the key that sealed, in the order in which they come."""


class Introductions:
    """The pseudonyms that one partition of raw records has told of under the latest stamp.

    What is due is a function of that partition's records, whatever dies in between: rows go to
    the changelog in the transaction that introduces. Several partitions may introduce the same
    patient; identity.v1 is compacted.
    """

    def __init__(self) -> None:
        self._stamp: Stamp = (0, 0)
        self._known: dict[bytes, None] = {}  # in order: the same log gives the same rows
        self._rows: dict[bytes, bytes | None] = {}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take a row of the changelog, in its order."""
        name = key.removeprefix(PREFIX)
        if value is None:
            self._known.pop(name, None)
            return
        day, epoch = _STAMP.unpack(value)
        if (day, epoch) > self._stamp:
            self._stamp, self._known = (day, epoch), {}
        self._known[name] = None

    def changes(self) -> Iterable[Row]:
        """Give the rows that changed since the last call."""
        rows, self._rows = self._rows, {}
        return rows.items()

    def due(self, pseudonym: bytes, accepted_at: int, epoch: int) -> bool:
        """Say whether a record has to introduce its patient.

        Args:
            pseudonym: of the patient.
            accepted_at: of the record, microseconds since 1970.
            epoch: of the key by which the introduction is sealed.
        """
        return _stamp(accepted_at, epoch) != self._stamp or pseudonym not in self._known

    def told(self, pseudonyms: Iterable[bytes], accepted_at: int, epoch: int) -> None:
        """Remember whom a record told of, once all that it leads to is written: see `due`."""
        stamp = _stamp(accepted_at, epoch)
        if stamp > self._stamp:
            self._rows |= dict.fromkeys((PREFIX + name for name in self._known), None)
            self._stamp, self._known = stamp, {}
        if stamp < self._stamp:
            return  # accepted before midnight, and late
        for pseudonym in pseudonyms:
            if pseudonym not in self._known:
                self._known[pseudonym] = None
                self._rows[PREFIX + pseudonym] = _STAMP.pack(*stamp)


def _stamp(accepted_at: int, epoch: int) -> Stamp:
    return accepted_at // DAY_US, epoch
