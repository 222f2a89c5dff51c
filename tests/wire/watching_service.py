"""A small watching service for the tests of the Faust side: counts per key, merges the counts.

The tasks are as small as they can be and have what the real ones have: rows that know through
which offset they have counted, results that say so, dead letters. With --stock they are gone, and
plain Faust counts into a plain table.
"""

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
from faust.types import StreamT

from services.core.errors import ExitCode, VigilError
from services.monitoring.app import Monitor, Wiring
from services.monitoring.quiet import quieten
from services.runtime.ports import Output, Record, Row
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.logs import configure
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.progress import Progress

if TYPE_CHECKING:
    from services.monitoring.desk import MakeTask

PARTITIONS = 4


class Counting:
    """State: how often each key came. Output: key, partition, count, at every record."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._rows: dict[bytes, tuple[int, int]] = {}
        self._changed: set[bytes] = set()

    def load(self, key: bytes, value: bytes | None) -> None:
        mark, count = (value or b"").split()
        self._rows[key] = int(mark), int(count)

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        for record in records:
            key = record.key or b""
            mark, count = self._rows.get(key, (-1, 0))
            if record.offset > mark:
                self._rows[key] = record.offset, count + 1
                self._changed.add(key)
            mark, count = self._rows[key]
            value = b"%s %d %d %d" % (key, self._partition, mark, count)
            yield Output("tallies", b"hours", value)

    def changes(self) -> Iterable[Row]:
        rows = [(key, b"%d %d" % self._rows[key]) for key in sorted(self._changed)]
        self._changed.clear()
        return rows


class Merging:
    """State: the furthest tally per key and source partition. Output: key and its total."""

    def __init__(self, _: int) -> None:
        self._rows: dict[bytes, tuple[int, int]] = {}
        self._changed: set[bytes] = set()

    def load(self, key: bytes, value: bytes | None) -> None:
        mark, count = (value or b"").split()
        self._rows[key] = int(mark), int(count)

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        for record in records:
            key, partition, mark, count = (record.value or b"").split()
            place = key + b"/" + partition
            if int(mark) > self._rows.get(place, (-1, 0))[0]:
                self._rows[place] = int(mark), int(count)
                self._changed.add(place)
            parts = [n for name, (_, n) in self._rows.items() if name.startswith(key + b"/")]
            yield Output("metrics", key, b"%d" % sum(parts))

    def changes(self) -> Iterable[Row]:
        rows = [(key, b"%d %d" % self._rows[key]) for key in sorted(self._changed)]
        self._changed.clear()
        return rows


async def ours(given: argparse.Namespace) -> None:
    progress = Progress(Metrics(Build.of("monitoring")), time.monotonic)
    wiring = Wiring(
        service=given.service,
        partitions=PARTITIONS,
        tables={"in": "folds", "tallies": "merged"},
        member=given.member,
        flush_s=given.flush,
        prefix=given.prefix,
    )
    options = {"bootstrap.servers": given.bootstrap}
    makers: dict[str, MakeTask] = {"in": Counting, "tallies": Merging}
    monitor = Monitor(wiring, options, makers, meter=progress, progress=progress)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def tell() -> None:
        while True:
            await asyncio.sleep(0.1)
            ready = "ready" if monitor.ready()[0] else ""
            given.told.write_text(f"{sum(t == 'in' for t, _ in monitor._held)} {ready}")

    try:
        await monitor.run(stopping, tell)
    except VigilError:
        os._exit(ExitCode.CRASH)


async def stock(given: argparse.Namespace) -> None:
    """Faust as it comes: its own transport, a number per key in a table, no offsets in rows."""
    app = faust.App(
        given.service,
        broker=f"kafka://{given.bootstrap}",
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        datadir=str(given.told.parent),
    )
    raw: Any = {"key_type": bytes, "value_type": bytes, "value_serializer": "raw"}
    source = app.topic(given.prefix + "in", **raw)
    target = app.topic(given.prefix + "metrics", **raw)
    counts = app.Table("folds", key_type=bytes, value_type=int, default=int, partitions=PARTITIONS)

    async def count(stream: StreamT[bytes]) -> None:
        async for event in stream.events():
            key = b"%s/%d" % (event.key, event.message.partition)
            counts[key] += 1
            await (await target.send(key=key, value=b"%d" % counts[key]))

    app.agent(source)(count)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    app.finalize()
    await app.maybe_start()
    await stopping.wait()
    await app.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--service", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--member")
    parser.add_argument("--flush", type=float, default=0.5)
    parser.add_argument("--told", type=Path, required=True)
    parser.add_argument("--stock", action="store_true")
    given = parser.parse_args()
    configure("monitoring", "warning")
    quieten(time.monotonic)
    asyncio.run(stock(given) if given.stock else ours(given))


if __name__ == "__main__":
    main()
