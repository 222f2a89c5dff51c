"""`make bench NAME=refused`: how long bad messages hold up the next good one, and what they cost.

Every refused case of bad_inputs.tsv, mixed into good messages at 1, 10 and 50 %. The bar is 50 ms
at p99 for the next good message, and memory that grows by less than 64 MiB. It is measured twice:

- In memory, one message after the other: from handing over a bad message to the outputs of the
  good one behind it. Nothing but ingest's own work.
- Through Kafka, at a steady rate in one partition, ingest in a process of its own: from handing a
  good message that follows a bad one to the client until a reader of committed records has its
  receipt. That holds all that a message waits for anyway: company on its way to the broker, the
  transaction (up to 20 ms and a commit), and the way back. So the same is told of the good
  messages of the same stream that follow a good one, and of a stream in which nothing is bad:
  how much later a bad message makes the next one is the difference.

Before anything counts, the same process and broker have worked for `--warm` messages as fast as
they could and for ten seconds at the rate: a group that is being joined and a broker that compiles
itself hold up good messages and bad ones alike, for seconds.
"""

import argparse
import gc
import itertools
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import bad_inputs
import builders
import numpy as np
from progress import say
from report import line

from services.ingest.normalise.strict import MAX_BYTES
from services.ingest.pipeline import RAW, RECEIPTS
from services.local.home import here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.group import Partition
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import Reader
from services.runtime.ports import Output, Record
from services.runtime.topics.files import read_topics
from services.runtime.worker import Plan, Worker

SHARES = (0.01, 0.1, 0.5)
PATIENCE_S = 60.0
WARM_AT_ONCE = 2_000
WARM_S = 10.0
FAST = 1e9
SHORT = 1 << 16
"""Bytes of the longest message that warms."""


class Mixed(NamedTuple):
    """Messages, and which of them are bad."""

    records: Sequence[Record]
    bad: Sequence[bool]

    def after_bad(self) -> Iterator[tuple[int, int]]:
        """Give the place of each bad message behind which a good one comes, and of that one."""
        for place, (bad, follower) in enumerate(itertools.pairwise(self.bad)):
            if bad and not follower:
                yield place, place + 1

    def after_good(self) -> Iterator[int]:
        """Give the place of each good message that comes behind a good one."""
        for place, (bad, follower) in enumerate(itertools.pairwise(self.bad)):
            if not (bad or follower):
                yield place + 1


def mixed(count: int, share: float, rng: random.Random, longest: int = sys.maxsize) -> Mixed:
    """Draw good and bad messages; each case comes as often as the others."""
    bodies = [
        body for case in bad_inputs.REFUSED if len(body := builders.body(case.content)) <= longest
    ]
    cases = itertools.cycle(bodies)
    bad = [rng.random() < share for _ in range(count)]
    first = rng.getrandbits(40) << 20  # ids are made of it: no two mixes share one
    records = [
        builders.record(next(cases) if is_bad else builders.observation(id=f"o-{n}"), offset=n)
        for n, is_bad in enumerate(bad, start=first)
    ]
    return Mixed(records, bad)


def in_memory(given: Mixed) -> list[float]:
    """Milliseconds from handing over a bad message to the outputs of the good one behind it."""
    task, began, ended = builders.ingest(), list[float](), list[float]()
    for record in given.records:
        began.append(time.perf_counter())
        list(task.handle([record]))
        ended.append(time.perf_counter())
    return [(ended[good] - began[bad]) * 1e3 for bad, good in given.after_bad()]


class Silent:
    """A meter that nobody reads."""

    def handled(self, records: Sequence[Record], outputs: Sequence[Output]) -> None: ...
    def committed(self, seconds: float) -> None: ...
    def assigned(self, partitions: Sequence[Partition], rows: int) -> None: ...
    def behind(self, lag: dict[Partition, int]) -> None: ...


def work(bootstrap: str) -> None:
    """Ingest, as its service runs it, in a process of its own, until told to end."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    gc.freeze()
    plan = Plan(service="ingest", instance=0, inputs=(RAW,))
    options = {"bootstrap.servers": bootstrap}
    Worker(plan, options, lambda _: builders.ingest(), Silent(), time.monotonic).run(stopping)


class Way:
    """The way of messages through a broker, and who writes and reads at its ends."""

    def __init__(self, bootstrap: str, working: int) -> None:
        """Begin; `working` is the process of ingest."""
        options = {"bootstrap.servers": bootstrap}
        self._publisher, self._working = Publisher(options), working
        self._reader = Reader(options, {(RECEIPTS, n): 0 for n in range(builders.PARTITIONS)})

    def times(self, given: Mixed, rate: float) -> list[float]:
        """Milliseconds from sending each message until its receipt is committed and read."""
        names = [dict(record.headers)["ingest_id"] or b"" for record in given.records]
        sent, arrived = list[float](), dict[bytes, float]()
        sending = threading.Thread(target=self._send, args=(given, rate, sent))
        sending.start()
        waiting, deadline = set(names), time.monotonic() + PATIENCE_S + len(names) / rate
        while waiting:
            assert time.monotonic() < deadline, "receipts are missing"
            for record in self._reader.read(0.05):
                if record.key in waiting:
                    waiting.remove(record.key)
                    arrived[record.key] = time.monotonic()
        sending.join()
        return [(arrived[name] - at) * 1e3 for name, at in zip(names, sent, strict=True)]

    def _send(self, given: Mixed, rate: float, sent: list[float]) -> None:
        began = time.monotonic()
        for number, record in enumerate(given.records):
            while (early := began + number / rate - time.monotonic()) > 0:
                time.sleep(early)
            sent.append(time.monotonic())
            output = Output(RAW, b"key", record.value, 0, record.headers)
            self._publisher.send(output, lambda _: None)
            self._publisher.poll(0)
        self._publisher.flush(PATIENCE_S)

    def resident(self) -> int:
        """Memory of ingest, bytes."""
        return resident(self._working)

    def close(self) -> None:
        """Let go of the broker."""
        self._reader.close()


def resident(process: int | str = "self") -> int:
    """Memory of a process, bytes."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def quantiles(times_ms: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    named = {"p50": 50, "p99": 99, "max": 100}
    return {name: round(float(np.percentile(times_ms, q)), 3) for name, q in named.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="of each share, in memory")
    parser.add_argument("--sent", type=int, default=6_000, help="of each share, through Kafka")
    parser.add_argument("--rate", type=float, default=500.0, help="sent a second")
    parser.add_argument("--warm", type=int, default=60_000, help="sent before, as fast as it goes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-broker", action="store_true", help="only what runs in memory")
    given = parser.parse_args()
    rng, figures = random.Random(given.seed), dict[str, object]()  # noqa: S311 - no secret
    gc.freeze()  # as the service does
    for share in SHARES:
        many = mixed(given.messages, share, rng)
        before = resident()
        in_memory(many)  # what is remembered is remembered then
        figures[f"in_memory_{share:.0%}_ms"] = quantiles(in_memory(many))
        figures[f"in_memory_{share:.0%}_growth_mib"] = round((resident() - before) / 2**20, 1)
        say(f"in memory, {share:.0%} bad: {figures[f'in_memory_{share:.0%}_ms']}")
    if not given.no_broker:
        figures |= on_a_broker(given, rng)
    did = f"{len(bad_inputs.REFUSED)} cases at 1, 10 and 50 %; the bar: p99 50 ms, growth 64 MiB"
    print(line("refused", figures, {}, did=did, seed=given.seed))


def on_a_broker(given: argparse.Namespace, rng: random.Random) -> dict[str, object]:
    """The same with the whole loop around it; what a topic would not take is left out."""
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder), free_port(), cache=here().cache).start()
        working = multiprocessing.get_context("spawn").Process(
            target=work, args=(broker.bootstrap,)
        )
        try:
            options = {"bootstrap.servers": broker.bootstrap}
            for topic in read_topics(builders.SCHEMAS):
                many = builders.PARTITIONS
                create_topic(options, topic.topic, partitions=many, config=topic.settings())
            working.start()
            assert working.pid is not None
            way = Way(broker.bootstrap, working.pid)
            try:
                return along(way, given, rng)
            finally:
                way.close()
        finally:
            if working.is_alive():
                working.terminate()
                working.join(PATIENCE_S)
            broker.stop()


def along(way: Way, given: argparse.Namespace, rng: random.Random) -> dict[str, object]:
    """Warm everything up, then measure each share at the rate."""
    figures: dict[str, object] = {"rate_per_s": given.rate}
    for warming in range(0, given.warm, WARM_AT_ONCE):
        way.times(mixed(WARM_AT_ONCE, 0.1, rng, SHORT), FAST)
        say(f"warming: {warming + WARM_AT_ONCE} messages")
    way.times(mixed(round(WARM_S * given.rate), 0.1, rng, MAX_BYTES), given.rate)
    for share in (0.0, *SHARES):
        many, before = mixed(given.sent, share, rng, MAX_BYTES), way.resident()
        times, name = way.times(many, given.rate), f"kafka_{share:.0%}"
        behind = {"good": list(many.after_good()), "bad": [good for _, good in many.after_bad()]}
        for what, places in behind.items():
            if places:
                figures[f"{name}_behind_{what}_ms"] = quantiles([times[place] for place in places])
                say(f"{name}, behind a {what} one: {figures[f'{name}_behind_{what}_ms']}")
        figures[f"{name}_growth_mib"] = round((way.resident() - before) / 2**20, 1)
        figures[f"{name}_resident_mib"] = round(way.resident() / 2**20)
    return figures


if __name__ == "__main__":
    main()
