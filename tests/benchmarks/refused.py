"""`make bench NAME=refused`: how long bad messages hold up the next good one, and what they cost.

Every refused case of bad_inputs.tsv, mixed into good messages at 1, 10 and 50 %: in memory, one
message after the other, from handing over a bad one to the outputs of the good one behind it; and
through Kafka, in one partition at a steady rate, from sending a good one that follows a bad one
until its receipt is committed, and beside it the same where none is bad. The bar is 50 ms at p99,
and memory that grows by less than 64 MiB.
"""

import argparse
import gc
import itertools
import os
import random
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


class Mixed(NamedTuple):
    """Messages, and which of them are bad."""

    records: Sequence[Record]
    bad: Sequence[bool]

    def after_bad(self) -> Iterator[tuple[int, int]]:
        """Give the place of each bad message behind which a good one comes, and of that one."""
        for place, (bad, follower) in enumerate(itertools.pairwise(self.bad)):
            if bad and not follower:
                yield place, place + 1


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


def through_kafka(bootstrap: str, name: str, given: Mixed, rate: float) -> list[float]:
    """Milliseconds from sending a good message behind a bad one until its receipt is committed."""
    options, topic = {"bootstrap.servers": bootstrap}, f"{RAW}-{name}"
    create_topic(options, topic, partitions=1, config={"max.message.bytes": str(2 << 20)})
    stopping = threading.Event()
    plan = Plan(service=name, instance=0, inputs=(topic,))
    worker = Worker(plan, options, lambda _: builders.ingest(), Silent(), time.monotonic)
    working = threading.Thread(target=worker.run, args=(stopping,))
    reader = Reader(options, {(RECEIPTS, number): 0 for number in range(builders.PARTITIONS)})
    working.start()
    sent, arrived = list[float](), dict[bytes, float]()
    sending = threading.Thread(target=_send, args=(bootstrap, topic, given, rate, sent))
    sending.start()
    names = [dict(record.headers)["ingest_id"] or b"" for record in given.records]
    waiting, deadline = set(names), time.monotonic() + PATIENCE_S + len(names) / rate
    while waiting:
        assert time.monotonic() < deadline, "receipts are missing"
        for record in reader.read(0.05):
            if record.key in waiting:
                waiting.remove(record.key)
                arrived[record.key] = time.monotonic()
    sending.join()
    stopping.set()
    working.join()
    reader.close()
    looked_at = [good for _, good in given.after_bad()] or range(len(names))
    return [(arrived[names[place]] - sent[place]) * 1e3 for place in looked_at]


def _send(bootstrap: str, topic: str, given: Mixed, rate: float, sent: list[float]) -> None:
    publisher, began = Publisher({"bootstrap.servers": bootstrap}), time.monotonic()
    for number, record in enumerate(given.records):
        while (early := began + number / rate - time.monotonic()) > 0:
            time.sleep(early)
        sent.append(time.monotonic())
        publisher.send(Output(topic, b"key", record.value, 0, record.headers), lambda _: None)
        publisher.poll(0)
    publisher.flush(PATIENCE_S)


def resident() -> int:
    """Memory of this process, bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
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
        figures |= on_a_broker(given.sent, given.rate, rng)
    did = f"{len(bad_inputs.REFUSED)} cases at 1, 10 and 50 %; the bar: p99 50 ms, growth 64 MiB"
    print(line("refused", figures, {}, did=did, seed=given.seed))


def on_a_broker(count: int, rate: float, rng: random.Random) -> dict[str, object]:
    """The same with the whole loop around it; what a topic would not take is left out."""
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder), free_port(), cache=here().cache).start()
        try:
            options = {"bootstrap.servers": broker.bootstrap}
            for topic in read_topics(builders.SCHEMAS):
                create_topic(
                    options,
                    topic.topic,
                    partitions=builders.PARTITIONS,
                    config=topic.settings(),
                )
            through_kafka(broker.bootstrap, "warming", mixed(count, 0.1, rng, MAX_BYTES), rate)
            for share in (0.0, *SHARES):
                many, before = mixed(count, share, rng, MAX_BYTES), resident()
                times = through_kafka(broker.bootstrap, f"bad-{share}", many, rate)
                figures[f"kafka_{share:.0%}_ms"] = quantiles(times)
                figures[f"kafka_{share:.0%}_growth_mib"] = round((resident() - before) / 2**20, 1)
                say(f"through Kafka, {share:.0%} bad: {figures[f'kafka_{share:.0%}_ms']}")
        finally:
            broker.stop()
    return figures


if __name__ == "__main__":
    main()
