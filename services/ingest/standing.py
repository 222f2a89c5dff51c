"""What stands of the sources whose notices meet in one partition."""

from collections.abc import Iterable
from typing import Final

import msgspec

from services.core.events import Notice, Signal
from services.core.notices import Standing, follow
from services.runtime.ports import Row
from services.runtime.tables import Table

CHANGELOG: Final = "ingest-changelog"

_Rows = msgspec.msgpack.Decoder(dict[str, Standing])


class Sources:
    """A row per source of which a signal was ever opened."""

    def __init__(self) -> None:
        self._table = Table()

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take a row of the changelog."""
        self._table.load(key, value)

    def changes(self) -> Iterable[Row]:
        """Give the rows that changed since the last call."""
        return self._table.changes()

    def hear(self, notice: Notice) -> list[Signal]:
        """Take a notice, and give the steps of signals that it leads to.

        Raises:
            Refusal: nobody knows its kind (AVRO_SYNTAX).
        """
        key = notice.source.encode()
        row = self._table.get(key)
        before = _Rows.decode(row) if row else {}
        standing, steps = follow(notice, before)
        if standing != before:
            self._table[key] = msgspec.msgpack.encode(standing)
        return steps
