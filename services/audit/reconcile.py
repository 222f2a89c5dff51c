"""Accounting for every offset and entry, from sets of coordinates alone; pure.

An entry of a raw record is one number, `offset * ENTRIES + entry`. Every account is of one
partition. `horizon` is the stable end when the books were opened: what lies before it must be
explained. What lies between it and `end`, the stable end when they were closed, came meanwhile:
others may refer to it, nobody must.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from services.core.events import Fate

Numbers = npt.NDArray[np.int64]

ENTRIES: Final = 1 << 16
"""More than a raw record can have (`Vitals.entries` is uint16)."""
FATES: Final = (*(str(fate) for fate in Fate), "empty")
EMPTY: Final = np.zeros(0, np.int64)


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The offsets of one partition, as Kafka gives them and as the ledger holds them."""

    topic: str
    partition: int
    start: int  # Kafka holds nothing below
    horizon: int
    end: int
    in_kafka: Numbers
    in_ledger: Numbers

    def known(self) -> Numbers:
        """Offsets that must be explained."""
        both = np.union1d(self.in_kafka, self.in_ledger)
        return both[both < self.horizon]

    def strangers(self, offsets: Numbers) -> Numbers:
        """Of offsets that others name, those that are not there and did not come meanwhile."""
        unique = np.unique(offsets)
        unique = unique[(unique < self.horizon) | (unique >= self.end)]
        return np.setdiff1d(unique, self.known())


class Unexplained(msgspec.Struct, frozen=True, kw_only=True):
    """A place that nothing explains, or that is explained twice."""

    what: str
    topic: str
    partition: int
    offset: int
    entry: int | None = None


class RawAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What others say of one partition of the raw topic."""

    log: Log
    vitals_partitions: int
    receipts: Numbers  # raw offset per receipt
    entries: Numbers  # entry key per line of a receipt
    fates: Sequence[str]  # per line of a receipt
    covered: Numbers  # entry key per vitals event and entry, ticks left out
    ticks: Numbers  # raw offset * vitals_partitions + vitals partition, per tick event
    dead: Numbers  # entry key per dead letter


class VitalsAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What others say of one partition of the vitals topic."""

    log: Log
    shown: Numbers  # vitals offset per entry of a batch that is shown
    shadow: Mapping[str, Numbers]  # the same per model that is not shown
    unreadable: Numbers  # vitals offset per shown entry that was unreadable
    dead: Numbers  # vitals offset per dead letter


def of_raw(account: RawAccount) -> Iterator[Unexplained]:
    """Hold the raw records against receipts, the receipts against what they say, and back."""
    log = account.log
    known = log.known()
    yield from _of_log(log)
    yield from _named(log, "raw record without receipt", np.setdiff1d(known, account.receipts))
    yield from _named(log, "receipt without raw record", log.strangers(account.receipts))
    yield from _named(log, "raw record with two receipts", _doubled(account.receipts))
    yield from _entries(log, "entry twice in its receipt", _doubled(account.entries))
    yield from _entries(log, "entry missing in its receipt", _gaps(account.entries))
    yield from _of_vitals(account)
    yield from _of_dead(account)
    yield from _of_ticks(account)


def of_vitals(account: VitalsAccount) -> Iterator[Unexplained]:
    """Hold the vitals offsets against predictions, and back."""
    log = account.log
    yield from _of_log(log)
    missing = np.setdiff1d(log.known(), account.shown)
    yield from _named(log, "vitals record without prediction", missing)
    yield from _named(log, "prediction without vitals record", log.strangers(account.shown))
    yield from _named(log, "vitals record with two predictions", _doubled(account.shown))
    for offsets in account.shadow.values():
        yield from _named(log, "shadow prediction without vitals record", log.strangers(offsets))
        yield from _named(log, "vitals record with two shadow predictions", _doubled(offsets))
    silent = np.setdiff1d(account.unreadable, account.dead)
    yield from _named(log, "unreadable record without dead letter", silent)
    strange = _beyond(log, np.setdiff1d(account.dead, account.unreadable))
    yield from _named(log, "dead letter of a record that was read", strange)


def fates(account: RawAccount) -> dict[str, int]:
    """Count the entries of each fate, of the records that must be explained."""
    known = np.isin(account.entries // ENTRIES, account.log.known())
    chosen = np.array(account.fates, dtype=object)[known].tolist()
    return {fate: chosen.count(fate) for fate in FATES}


def entry_keys(offsets: Sequence[int], entries: Sequence[int]) -> Numbers:
    """Join offsets and entry numbers; the whole record (-1) stands as its first entry."""
    numbers = np.maximum(np.asarray(entries, np.int64), 0)
    return np.asarray(offsets, np.int64) * ENTRIES + numbers


def _of_log(log: Log) -> Iterator[Unexplained]:
    kafka, ledger = log.in_kafka, log.in_ledger
    omitted = np.setdiff1d(kafka[kafka < log.horizon], ledger)
    yield from _named(log, "record in Kafka and not in the ledger", omitted)
    held = ledger[(ledger >= log.start) & (ledger < log.horizon)]
    yield from _named(log, "record in the ledger and not in Kafka", np.setdiff1d(held, kafka))
    yield from _named(log, "record in the ledger beyond Kafka's end", ledger[ledger >= log.end])


def _of_vitals(account: RawAccount) -> Iterator[Unexplained]:
    log, said = account.log, _said(account, Fate.VITALS)
    yield from _entries(log, "entry without vitals event", np.setdiff1d(said, account.covered))
    yield from _entries(log, "entry in two vitals events", _doubled(account.covered))
    strange = np.setdiff1d(account.covered, said)
    yield from _entries(log, "vitals event without receipt", _settled(log, strange))


def _of_dead(account: RawAccount) -> Iterator[Unexplained]:
    log, said = account.log, _said(account, Fate.DEAD)
    yield from _entries(log, "entry without dead letter", np.setdiff1d(said, account.dead))
    yield from _entries(log, "entry with two dead letters", _doubled(account.dead))
    strange = np.setdiff1d(account.dead, said)
    yield from _entries(log, "dead letter without receipt", _settled(log, strange))


def _of_ticks(account: RawAccount) -> Iterator[Unexplained]:
    log, count = account.log, account.vitals_partitions
    said = _said(account, Fate.TICK) // ENTRIES
    wanted = (said[:, None] * count + np.arange(count)).ravel()
    late = np.setdiff1d(wanted, account.ticks) // count
    yield from _named(log, "tick missing in a vitals partition", late)
    yield from _named(log, "tick twice in a vitals partition", _doubled(account.ticks) // count)
    strange = np.setdiff1d(account.ticks, wanted) // count
    yield from _named(log, "tick without receipt", _beyond(log, strange))


def _said(account: RawAccount, fate: Fate) -> Numbers:
    chosen = np.array([found == fate for found in account.fates], bool)
    keys = np.unique(account.entries[chosen])
    return keys[keys // ENTRIES < account.log.horizon]


def _settled(log: Log, keys: Numbers) -> Numbers:
    offsets = keys // ENTRIES
    return keys[(offsets < log.horizon) | (offsets >= log.end)]


def _beyond(log: Log, offsets: Numbers) -> Numbers:
    return offsets[(offsets < log.horizon) | (offsets >= log.end)]


def _doubled(keys: Numbers) -> Numbers:
    unique, counts = np.unique(keys, return_counts=True)
    return unique[counts > 1]


def _gaps(keys: Numbers) -> Numbers:
    """Entry keys that are missing between the first entry of a record and its last."""
    unique = np.unique(keys)
    offsets, first, counts = np.unique(unique // ENTRIES, return_index=True, return_counts=True)
    last = unique[first + counts - 1] if len(unique) else EMPTY
    holed = np.flatnonzero(last % ENTRIES + 1 != counts)
    wanted = [np.arange(offsets[i] * ENTRIES, last[i]) for i in holed]
    return np.setdiff1d(np.concatenate([EMPTY, *wanted]), unique)


def _named(log: Log, what: str, offsets: Numbers) -> Iterator[Unexplained]:
    for offset in offsets.tolist():
        yield Unexplained(what=what, topic=log.topic, partition=log.partition, offset=offset)


def _entries(log: Log, what: str, keys: Numbers) -> Iterator[Unexplained]:
    for key in keys.tolist():
        offset, entry = divmod(key, ENTRIES)
        yield Unexplained(
            what=what, topic=log.topic, partition=log.partition, offset=offset, entry=entry
        )
