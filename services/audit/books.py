"""`vigil ledger reconcile`: opens the books from Kafka and the store, and closes them."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from services.audit.reconcile import (
    EMPTY,
    Log,
    Numbers,
    RawAccount,
    Unexplained,
    VitalsAccount,
    entry_keys,
    fates,
    of_raw,
    of_vitals,
)
from services.audit.recorder import Source
from services.audit.writer import Store
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.client import Options
from services.runtime.kafka.reader import Partition, scan, stable_ends, starts

RAW: Final = "fhir.raw.v1"
VITALS: Final = "vitals.v1"
SHOWN: Final = 5
"""How many places of each kind a report names; it counts all."""
PATIENCE_S: Final = 15.0
AGAIN_S: Final = 0.5
"""How long to wait before another look at books that do not agree yet."""

_LEDGER: Final = (
    "SELECT offset FROM ledger WHERE topic = {topic:String} AND topic_id = {topic_id:String}"
    " AND partition = {partition:Int32}"
)
_RECEIPTS: Final = (
    "SELECT partition, offset, raw_offset, entry, fate FROM receipts"
    " WHERE topic_id = {topic_id:String} AND raw_partition = {partition:Int32}"
)
_EVENTS: Final = (
    "SELECT partition, raw_offset, kind, entries FROM vitals"
    " WHERE topic_id = {topic_id:String} AND raw_partition = {partition:Int32}"
)
_DEAD: Final = (
    "SELECT source_offset, entry FROM dead_letters WHERE topic_id = {topic_id:String}"
    " AND source_topic = {source_topic:String} AND source_partition = {partition:Int32}"
)
_PREDICTIONS: Final = (
    "SELECT vitals_offset, role, model_digest, disposition, cause FROM predictions"
    " WHERE topic_id = {topic_id:String} AND vitals_topic_id = {vitals:String}"
    " AND vitals_partition = {partition:Int32}"
)


class Report(msgspec.Struct, kw_only=True):
    """How many records and entries there were, what became of them, and what nothing explains."""

    raw_records: int = 0
    raw_entries: dict[str, int] = {}
    vitals_records: int = 0
    dispositions: dict[str, int] = {}
    ledger_only: int = 0  # records that Kafka no longer holds
    unexplained: dict[str, int] = {}
    unexplained_total: int = 0
    first: list[Unexplained] = []


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """What Kafka holds of one partition when the books are opened."""

    horizon: int
    offsets: Numbers


class Books:
    """The accounts of one cluster and one store."""

    def __init__(self, options: Options, store: Store, sources: Mapping[str, Source]) -> None:
        """Prepare.

        Args:
            options: of the cluster.
            store: the ledger's.
            sources: every topic of the contract as the cluster has it now.
        """
        self._options, self._store, self._sources = options, store, sources
        self._places = partitions_of(options, [RAW, VITALS])

    def reconcile(self, patience_s: float = PATIENCE_S) -> Report:
        """Account for everything that stood in Kafka when this was called.

        What is still on its way is given `patience_s` to arrive; then it is unexplained.

        Raises:
            Retry: Kafka or ClickHouse does not answer.
        """
        opened = self._open()
        deadline = time.monotonic() + patience_s
        while True:
            report = self._close(opened)
            if not report.unexplained_total or time.monotonic() >= deadline:
                return report
            time.sleep(AGAIN_S)

    def _open(self) -> dict[Partition, Ends]:
        horizons = stable_ends(self._options, self._places)
        offsets: dict[Partition, list[int]] = {place: [] for place in self._places}
        for record in scan(self._options, self._places, patience_s=PATIENCE_S):
            place = (record.topic, record.partition)
            if record.offset < horizons[place]:
                offsets[place].append(record.offset)
        return {
            place: Ends(horizon=horizons[place], offsets=np.array(found, np.int64))
            for place, found in offsets.items()
        }

    def _close(self, opened: Mapping[Partition, Ends]) -> Report:
        # The ends come after the store's answers: whatever they name had an offset by then.
        asked = [(place, self._ledger(place), self._said(place)) for place in self._places]
        ends = stable_ends(self._options, self._places)
        lowest = starts(self._options, self._places)
        report = Report()
        for place, in_ledger, said in asked:
            log = Log(
                topic=place[0],
                partition=place[1],
                start=lowest[place],
                horizon=opened[place].horizon,
                end=ends[place],
                in_kafka=opened[place].offsets[opened[place].offsets >= lowest[place]],
                in_ledger=in_ledger,
            )
            report.ledger_only += int((log.known() < log.start).sum())
            if place[0] == RAW:
                _close_raw(report, log, said)
            else:
                _close_vitals(report, log, said)
        return report

    def _said(self, place: Partition) -> dict[str, Mapping[str, Sequence[Any]]]:
        topic, partition = place
        dead = self._ask(_DEAD, "dlq.v1", partition=partition, source_topic=topic)
        if topic == VITALS:
            vitals_id = self._sources[VITALS].topic_id
            found = self._ask(
                _PREDICTIONS, "predictions.v1", partition=partition, vitals=vitals_id
            )
            return {"predictions": found, "dead": dead}
        return {
            "receipts": self._ask(_RECEIPTS, "receipts.v1", partition=partition),
            "events": self._ask(_EVENTS, VITALS, partition=partition),
            "dead": dead,
            "partitions": {"number": [p for topic, p in self._places if topic == VITALS]},
        }

    def _ledger(self, place: Partition) -> Numbers:
        found = self._ask(_LEDGER, place[0], topic=place[0], partition=place[1])
        return np.array(found["offset"], np.int64)

    def _ask(self, statement: str, source: str, **asked: Any) -> Mapping[str, Sequence[Any]]:
        parameters = {"topic_id": self._sources[source].topic_id, **asked}
        return self._store.query(statement, parameters, formats={"entries": "bytes"})


def _close_raw(report: Report, log: Log, said: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
    receipts, events, dead = said["receipts"], said["events"], said["dead"]
    count = len(said["partitions"]["number"])
    names = ("partition", "offset", "raw_offset")
    records = set(zip(*(receipts[name] for name in names), strict=True))
    ticks, covered = _events(events, count)
    account = RawAccount(
        log=log,
        vitals_partitions=count,
        receipts=np.array([raw_offset for _, _, raw_offset in records], np.int64),
        entries=entry_keys(receipts["raw_offset"], receipts["entry"]),
        fates=receipts["fate"],
        covered=covered,
        ticks=ticks,
        dead=entry_keys(dead["source_offset"], dead["entry"]),
    )
    report.raw_records += len(log.known())
    report.raw_entries = dict(Counter(report.raw_entries) + Counter(fates(account)))
    _note(report, of_raw(account))


def _close_vitals(
    report: Report, log: Log, said: Mapping[str, Mapping[str, Sequence[Any]]]
) -> None:
    found = said["predictions"]
    offsets = np.array(found["vitals_offset"], np.int64)
    roles = np.array(found["role"], dtype=object)
    digests = np.array(found["model_digest"], dtype=object)
    causes = np.array(found["cause"], dtype=object)
    shown = roles == "shown"
    account = VitalsAccount(
        log=log,
        shown=offsets[shown],
        shadow={d: offsets[~shown & (digests == d)] for d in set(digests[~shown].tolist())},
        unreadable=np.unique(offsets[shown & (causes == "unreadable")]),
        dead=np.unique(np.array(said["dead"]["source_offset"], np.int64)),
    )
    report.vitals_records += len(log.known())
    chosen = np.array(found["disposition"], dtype=object)[shown & np.isin(offsets, log.known())]
    report.dispositions = dict(Counter(report.dispositions) + Counter(chosen.tolist()))
    _note(report, of_vitals(account))


def _events(events: Mapping[str, Sequence[Any]], count: int) -> tuple[Numbers, Numbers]:
    """Give tick keys, and one entry key per event and entry: readings of one entry are one."""
    ticks, covered = [], [EMPTY]
    names = ("partition", "raw_offset", "kind", "entries")
    for partition, raw_offset, kind, entries in zip(*(events[n] for n in names), strict=True):
        if kind == "tick":
            ticks.append(raw_offset * count + partition)
            continue
        numbers = np.unique(np.frombuffer(entries, "<u2"))
        covered.append(entry_keys([raw_offset] * len(numbers), numbers.tolist()))
    return np.array(ticks, np.int64), np.concatenate(covered)


def _note(report: Report, found: Iterator[Unexplained]) -> None:
    for one in found:
        report.unexplained_total += 1
        report.unexplained[one.what] = report.unexplained.get(one.what, 0) + 1
        if report.unexplained[one.what] <= SHOWN:
            report.first.append(one)
