"""A small exactly-once service for the tests of the loop: counts its records per key.

It may be told to stop inside an open transaction, after its outputs were handed to the broker, and
to wait there until it is killed.
"""

import argparse
import os
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

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
    given = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    plan = Plan(
        service=given.service,
        instance=given.instance,
        inputs=(given.input,),
        changelog=given.changelog,
    )
    worker = Worker(
        plan,
        {"bootstrap.servers": given.bootstrap},
        lambda _: Counting(given.output, given.hang),
        Silent(given.told),
        time.monotonic,
    )
    watch(worker, time.monotonic)
    try:
        worker.run(stopping)
    except VigilError:
        threading.Timer(5, os._exit, (ExitCode.CRASH,)).start()
        worker.die()
        os._exit(ExitCode.CRASH)


if __name__ == "__main__":
    main()
