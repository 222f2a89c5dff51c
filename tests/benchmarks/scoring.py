"""`make bench NAME=scoring`: the whole work of one scoring process, on a log that waits for it.

Consume, decode, apply to the state, features, ONNX, policy, encode, changelog, transaction,
metrics. The limit is the same loop with a task that only copies: what the client and the broker
allow. The peer is the bare loop in transactions (`bare.py`), measured in the same run.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import builders
import numpy as np
from bare import OBSERVATIONS, Bare, observations
from report import line, spread

from services.core.events import Role, Vitals
from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime import bundle
from services.runtime.codec import Codec
from services.runtime.kafka.admin import create_topic, topics
from services.runtime.kafka.group import Partition
from services.runtime.kafka.publisher import Publisher
from services.runtime.model import OnnxModel
from services.runtime.ports import Output, Record, Stateless, Task
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.runtime.worker import Plan, Worker
from services.scoring.__main__ import counting, engine
from services.scoring.crew import Alone
from services.scoring.outputs import ALERTS, CHANGELOG, PREDICTIONS, VITALS
from services.scoring.pipeline import Scorer, Scoring
from services.scoring.warm import warm
from services.simulator.messages import START
from services.simulator.ward import Ward

PARTITIONS = 4


class Copying(Stateless):
    """The limit: one output per batch, as scoring has, and no work."""

    def __init__(self, partition: int) -> None:
        self._partition = partition

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        for start in range(0, len(records), 512):
            value = b"".join(r.value or b"" for r in records[start : start + 512])
            yield Output(PREDICTIONS, None, value[:900_000], self._partition)


class Counting:
    """A meter that stops the loop when all was handled."""

    def __init__(self, goal: int, stopping: threading.Event) -> None:
        self._goal, self._stopping = goal, stopping
        self._handled = 0
        self.began = self.ended = 0.0
        self.cpu_began = self.cpu_ended = 0.0
        self.batches: list[int] = []

    def handled(self, records: Sequence[Record], _: Sequence[Output]) -> None:
        self.batches.append(len(records))
        self._handled += len(records)

    def committed(self, _: float) -> None:
        if self._handled >= self._goal:
            self.ended, self.cpu_ended = time.monotonic(), time.process_time()
            self._stopping.set()

    def assigned(self, _: Sequence[Partition], __: int) -> None:
        self.began, self.cpu_began = time.monotonic(), time.process_time()

    def behind(self, lag: dict[Partition, int]) -> None: ...


def vitals(beds: int, count: int) -> list[Output]:
    """Vitals events of a simulated ward, as ingest writes them."""
    task, found = builders.ingest(), list[Output]()
    ward = Ward(np.random.default_rng(1), START, beds=beds)
    for offset, message in enumerate(ward.messages(10_000)):
        heard = message.time.isoformat()
        outputs = task.handle([builders.record(message.body, offset=offset, received=heard)])
        found += [output for output in outputs if output.topic == VITALS]
        if len(found) >= count:
            return found
    raise AssertionError("the ward ended")


def run(
    bootstrap: str, name: str, count: int, make: Callable[[int], Task], *, topic: str = VITALS
) -> Counting:
    options = {"bootstrap.servers": bootstrap}
    stopping = threading.Event()
    meter = Counting(count, stopping)
    plan = Plan(service=name, instance=0, inputs=(topic,), changelog=CHANGELOG)
    Worker(plan, options, make, meter, time.monotonic).run(stopping)
    return meter


def scorer(bootstrap: str, model: Path) -> Scorer:
    topic_id = topics({"bootstrap.servers": bootstrap})[VITALS].topic_id
    made = engine(model, role=Role.SHOWN, topic_id=topic_id)
    metrics = Metrics(Build(service="scoring", version="0", revision="", python=""))
    codec = Codec(REPO / "schemas")
    warm(codec)
    return Scorer(codec, Alone(made), counting(metrics, Role.SHOWN))


def bare_loop(model: Path) -> Callable[[int], Task]:
    loaded = bundle.load(model)
    return partial(Bare, onnx=OnnxModel(loaded), width=len(loaded.features))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--beds", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--model", type=Path, default=REPO / "models" / "sepsis" / "1.0.0")
    given = parser.parse_args()
    sys.stderr.write("simulating the ward\n")
    events = vitals(given.beds, given.events)
    codec = Codec(REPO / "schemas")
    bare = observations([codec.decode(e.value or b"", Vitals) for e in events], PARTITIONS)
    ours, limit, peer, cpu, peer_cpu, batches = [], [], [], [], [], list[int]()
    for repetition in range(given.repetitions):
        with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
            broker = Broker(Path(folder), free_port(), cache=here().cache).start()
            try:
                prepare(broker.bootstrap, [*events, *bare])
                shared = scorer(broker.bootstrap, given.model)
                make = partial(Scoring, scorer=shared)
                scored = run(broker.bootstrap, "scoring", len(events), make)
                copied = run(broker.bootstrap, "copying", len(events), Copying)
                stripped = run(
                    broker.bootstrap, "bare", len(bare), bare_loop(given.model), topic=OBSERVATIONS
                )
            finally:
                broker.stop()
        ours.append(len(events) / (scored.ended - scored.began))
        limit.append(len(events) / (copied.ended - copied.began))
        peer.append(len(bare) / (stripped.ended - stripped.began))
        peer_cpu.append((stripped.cpu_ended - stripped.cpu_began) / len(bare) * 1e6)
        cpu.append((scored.cpu_ended - scored.cpu_began) / len(events) * 1e6)
        batches += scored.batches
        told = f"{ours[-1]:,.0f} events/s, limit {limit[-1]:,.0f}, bare {peer[-1]:,.0f}"
        sys.stderr.write(f"{repetition + 1}: {told}\n")
    figures = {
        "events_per_s": spread(ours),
        "limit_events_per_s": spread(limit),
        "bare_loop_events_per_s": spread(peer),
        "bare_loop_cpu_us_per_event": spread(peer_cpu),
        "cpu_us_per_event": spread(cpu),
        "batch_records_median": float(np.median(batches)),
    }
    ratios = {
        "of_the_limit": spread([a / b for a, b in zip(ours, limit, strict=True)]),
        "transactional_loop": spread([a / b for a, b in zip(ours, peer, strict=True)]),
        "transactional_loop_cpu": spread([b / a for a, b in zip(cpu, peer_cpu, strict=True)]),
    }
    did = f"{len(events)} vitals events of {given.beds} beds, {PARTITIONS} partitions, backlog"
    print(line("scoring", figures, ratios, did=did, repetitions=given.repetitions))


def prepare(bootstrap: str, events: Sequence[Output]) -> None:
    options = {"bootstrap.servers": bootstrap}
    for name in (VITALS, PREDICTIONS, ALERTS, CHANGELOG, OBSERVATIONS):
        size = {"max.message.bytes": "2097152"}
        create_topic(options, name, partitions=PARTITIONS, config=size)
    publisher, confirmed = Publisher(options), list[bool]()
    for event in events:
        publisher.send(event, confirmed.append)
    publisher.flush(60)
    assert confirmed == [True] * len(events)


if __name__ == "__main__":
    main()
