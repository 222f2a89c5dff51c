"""What `vigil ledger rebuild` and `migrate` do: rows that derived tables lack, from the ledger."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.audit.migrate import Migration
    from services.audit.recorder import Source
    from services.runtime.clickhouse import ClickHouse

EVERY_S: Final = 2.0


def sources() -> list["Source"]:
    """Give the topics of the contract; which ones of their names Kafka has is not asked."""
    from services.audit.recorder import Source
    from services.audit.settings import AuditSettings
    from services.runtime.codec import EVENTS
    from services.runtime.topics.files import read_topics

    return [
        Source(topic=t.topic, topic_id="", phi=t.phi, event=EVENTS[t.event] if t.event else None)
        for t in read_topics(AuditSettings().schemas)
    ]


def without(store: "ClickHouse") -> Counter[str]:
    """Count the records of which a table has no row, by table; raises Retry without an answer."""
    from services.audit.rebuild import lacking

    found = Counter[str]()
    for lack in lacking(store, _by_topic()):
        found.update({table: len(offsets) for table, offsets in lack.tables.items()})
    return found


def fill(store: "ClickHouse") -> Counter[str]:
    """Append the rows that are lacking, and count them by table.

    Raises:
        Retry: no answer, or another process of this machine does the same.
        Stop: a record has a schema that is not known here.
    """
    from services.audit.pipeline import alone
    from services.audit.rebuild import rebuild
    from services.audit.settings import AuditSettings
    from services.runtime.codec import Codec

    settings = AuditSettings()
    with alone(settings.home, "rebuild"):
        return rebuild(store, _by_topic(), Codec(settings.schemas).decode, tell=_Told().rows)


def fill_after(store: "ClickHouse", applied: "Sequence[Migration]") -> None:
    """Give new tables the rows of old records; whoever may only make tables is told who may."""
    from services.core.errors import Retry, Stop

    if not applied or not without(store):
        return
    try:
        fill(store)
    except (Retry, Stop, OSError) as error:  # there may be no disk for a lock
        remedy = "run `vigil ledger rebuild` as the user of the audit service"
        print(f"new tables lack the rows of old records: {remedy} ({error})", file=sys.stderr)


def lines(found: Mapping[str, int], got: Mapping[str, int], *, dry_run: bool) -> Iterator[str]:
    """Say what was lacking and what was done about it."""
    for table, many in found.items():
        yield f"{table}: {many:,} records without a row, {got.get(table, 0):,} rows appended"
    if not found:
        yield "every record has its rows"
    elif not dry_run and not got:
        yield "nobody can read these records: they give no rows"


def _by_topic() -> dict[str, "Source"]:
    return {source.topic: source for source in sources()}


class _Told:
    """Tells of progress, every few seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def rows(self, got: Mapping[str, int]) -> None:
        if time.monotonic() - self._last >= EVERY_S:
            self._last = time.monotonic()
            print(f"{sum(got.values()):,} rows appended", file=sys.stderr)
