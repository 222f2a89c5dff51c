"""A small exactly-once service for the tests of the loop: counts its records per key.

It may be told to stop inside an open transaction, after its outputs were handed to the broker, and
to wait there until it is killed.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from confluent_kafka import TopicPartition
from typing_extensions import override

from services.core.errors import ExitCode, VigilError
from services.runtime.kafka.group import Partition
from services.runtime.ports import Output, Record, Row
from services.runtime.tables import Table
from services.runtime.worker import Plan, Worker, watch


class Counting:
    """State: how often each key came. Output: key, count and source offset."""

    def __init__(self, output: str, hang: Path | None) -> None:
        self._output, self._hang, self._table = output, hang, Table()
        self._handled = 0

    def load(self, key: bytes, value: bytes | None) -> None:
        self._table.load(key, value)

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        for record in records:
            key = record.key or b""
            count = int(self._table.get(key) or b"0") + 1
            self._table[key] = b"%d" % count
            self._handled += 1
            value = b"%s:%d:%d" % (key, count, record.offset)
            yield Output(self._output, key, value, record.partition)

    def changes(self) -> Iterable[Row]:
        if self._hang is not None and self._handled > 50:
            self._hang.write_text("inside the transaction")
            threading.Event().wait()
        return self._table.changes()


class CommitsBeforeItProduces(Worker):
    """A planted bug: the group's offsets go ahead of the outputs."""

    @override
    def _handle(self, records: list[Record]) -> None:
        positions = [TopicPartition(r.topic, r.partition, r.offset + 1) for r in records]
        self._reader._consumer.commit(offsets=positions, asynchronous=False)
        super()._handle(records)


class CommitsOffsetsOutside(Worker):
    """A planted bug: outputs in a transaction, offsets after it; it waits in between if told."""

    hang: Path | None = None

    @override
    def _commit(self, *, behind: bool = False) -> None:
        if self.began is None:
            return
        self._publisher.write(self._changed_rows())
        self._publisher._producer.commit_transaction(5)
        if self.hang is not None:
            self.hang.write_text("between outputs and offsets")
            threading.Event().wait()
        positions = [TopicPartition(t, p, o) for (t, p), o in self._offsets.items()]
        self._reader._consumer.commit(offsets=positions, asynchronous=False)
        self._offsets, self.began = {}, None


OUTSIDE = "commits-offsets-outside"
BUGS = {
    "none": Worker,
    "commits-before-it-produces": CommitsBeforeItProduces,
    OUTSIDE: CommitsOffsetsOutside,
}


class Silent:
    """A meter that leaves its last word in a file for the test to wait for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def handled(self, records: Sequence[Record], outputs: Sequence[Output]) -> None: ...

    def committed(self, seconds: float) -> None: ...

    def assigned(self, partitions: Sequence[Partition], rows: int) -> None:
        self._path.write_text(f"{sorted(p for _, p in partitions)} {rows}")

    def behind(self, lag: dict[Partition, int]) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--service", required=True)
    parser.add_argument("--instance", type=int, default=0)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--changelog", required=True)
    parser.add_argument("--told", type=Path, required=True)
    parser.add_argument("--hang", type=Path)
    parser.add_argument("--bug", choices=BUGS, default="none")
    given = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    plan = Plan(
        service=given.service,
        instance=given.instance,
        inputs=(given.input,),
        changelog=given.changelog,
    )
    worker = BUGS[given.bug](
        plan,
        {"bootstrap.servers": given.bootstrap},
        lambda _: Counting(given.output, given.hang if given.bug != OUTSIDE else None),
        Silent(given.told),
        time.monotonic,
    )
    if isinstance(worker, CommitsOffsetsOutside):
        worker.hang = given.hang
    watch(worker, time.monotonic)
    try:
        worker.run(stopping)
    except VigilError as error:
        sys.stderr.write(f"{error}\n")  # a wait that fails shows it
        sys.stderr.flush()
        threading.Timer(5, os._exit, (ExitCode.CRASH,)).start()
        worker.die()
        os._exit(ExitCode.CRASH)


if __name__ == "__main__":
    main()
