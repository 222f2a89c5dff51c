"""`make bench NAME=scoring`: the whole work of one scoring process, on a log that waits for it.

Consume, decode, apply to the state, features, ONNX, policy, encode, changelog, transaction,
metrics; in full batches, and in batches of ten and of one as a live feed makes them. The limit is
the same loop with a task that only copies: what the client and the broker allow. The peers, in the
same run: the bare loop in transactions of 10 ms (`bare.py`), the same work as a task of our own
worker, a stock Faust agent (`peer_faust.py`) and Quix Streams exactly-once (`peer_quix.py`) doing
the bare loop's work. Quix Streams comes twice: with its features in a dict, which no transaction
holds, and in its own store, which belongs to what is exactly once.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import bare
import builders
import numpy as np
import peers
from bare import OBSERVATIONS, Bare, Predicting, observations
from peers import Measured
from report import line, spread

from services.core.events import Disposition, PredictionBatch, Role, Vitals
from services.core.vitals import VITALS as VITAL_SIGNS
from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime import bundle
from services.runtime.codec import Codec
from services.runtime.kafka.admin import create_topic, topics
from services.runtime.kafka.group import Partition
from services.runtime.kafka.publisher import Publisher
from services.runtime.model import OnnxModel
from services.runtime.ports import Output, Record, Row, Stateless, Task
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.runtime.worker import Plan, Worker
from services.scoring.__main__ import engine
from services.scoring.counting import counting
from services.scoring.crew import Alone
from services.scoring.outputs import ALERTS, PREDICTIONS, VITALS
from services.scoring.pipeline import READ_AT_ONCE, Scorer, Scoring
from services.scoring.shares import Share
from services.scoring.warm import warm
from services.simulator.messages import START
from services.simulator.ward import Ward

PARTITIONS = 4
SIZE = {"max.message.bytes": "2097152"}
WARM_ROUNDS = 12
FLUSH_EVERY = 10_000


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

    def handled(self, records: Sequence[Record], _: Sequence[Output]) -> None:
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
    # Of its own: whoever restored what another run had read would find nothing new to score.
    changelog = f"{name}-changelog"
    create_topic(options, changelog, partitions=PARTITIONS, config=SIZE)
    plan = Plan(
        service=name, instance=0, inputs=(topic,), changelog=changelog, at_once=READ_AT_ONCE
    )
    Worker(plan, options, make, meter, time.monotonic).run(stopping)
    return meter


def scorer(bootstrap: str, model: Path, scored: list[int]) -> Scorer:
    topic_id = topics({"bootstrap.servers": bootstrap})[VITALS].topic_id
    made = engine(model, role=Role.SHOWN, topic_id=topic_id)
    metrics = Metrics(Build(service="scoring", version="0", revision="", python=""))
    codec = Codec(REPO / "schemas")
    warm(codec)
    tell = counting(metrics, Role.SHOWN)

    def told(share: Share, batch: PredictionBatch) -> None:
        tell(share, batch)
        scored.append(batch.dispositions.count(Disposition.SCORED))

    return Scorer(codec, Alone(made), told)


def bare_task(model: Path) -> Callable[[int], Task]:
    loaded = bundle.load(model)
    return partial(Bare, onnx=OnnxModel(loaded), width=len(loaded.features))


def bare_loop(bootstrap: str, model: Path, events: int) -> Measured:
    loaded = bundle.load(model)
    work = Predicting(OnnxModel(loaded), len(loaded.features))
    took = bare.run(bootstrap, work, events)
    return Measured(events / took.wall_s, took.cpu_s / events * 1e6)


class InParts:
    """Scoring that is handed a few records at a time, as they come from a live feed."""

    def __init__(self, partition: int, scorer: Scorer, size: int) -> None:
        self._scoring, self._size = Scoring(partition, scorer), size

    def load(self, key: bytes, value: bytes | None) -> None:
        self._scoring.load(key, value)

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        for start in range(0, len(records), self._size):
            yield from self._scoring.handle(records[start : start + self._size])

    def changes(self) -> Iterable[Row]:
        return self._scoring.changes()


def measured(meter: Counting, events: int) -> Measured:
    return Measured(
        events / (meter.ended - meter.began), (meter.cpu_ended - meter.cpu_began) / events * 1e6
    )


def mean(one: Measured, other: Measured) -> Measured:
    return Measured(*(sum(pair) / 2 for pair in zip(one, other, strict=True)))


def round_of(
    given: argparse.Namespace, events: Sequence[Output], seen: Sequence[Output]
) -> dict[str, Measured]:
    """Everybody once, one after the other, on a broker of their own."""
    found: dict[str, Measured | None] = {}
    scored: dict[str, list[int]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder), free_port(), cache=here().cache).start()
        try:
            prepare(broker.bootstrap, [*events, *seen])
            at, many = broker.bootstrap, len(events)
            # A young broker compiles itself beside the runs: what it spends on an event falls from
            # 50 to 15 us meanwhile, and whoever came first would be measured on half a machine.

            def alone(name: str) -> Measured:
                one = scorer(at, given.model, scored[name])
                return measured(run(at, name, many, partial(Scoring, scorer=one)), many)

            for turn in range(WARM_ROUNDS):
                alone(f"warming-{turn}")
            before = alone("before")
            for size in (10, 1):
                one = scorer(at, given.model, scored[name := f"scoring_at_{size}"])
                make = partial(InParts, scorer=one, size=size)
                found[name] = measured(run(at, name, many, make), many)
            found["limit"] = measured(run(at, "copying", many, Copying), many)
            found["bare_loop"] = bare_loop(at, given.model, len(seen))
            ours = run(at, "bare", len(seen), bare_task(given.model), topic=OBSERVATIONS)
            found["bare_in_our_worker"] = measured(ours, len(seen))
            found["faust_agent"] = peers.faust(work(at, min(given.faust, len(seen)), given.model))
            for kept in ("store", "dict"):
                told = work(at, len(seen), given.model)
                found[f"quix_with_a_{kept}"] = peers.quix(kept, told, here().cache)
            # Others of the machine take of it now more, now less: what all are held against is the
            # mean of both ends.
            found = {"scoring": mean(before, alone("after")), **found}
        finally:
            broker.stop()
    (share,) = {sum(each) / many for each in scored.values()}
    sys.stderr.write(f"each of {len(scored)} runs scored {share:.0%} of the events\n")
    return {name: figures for name, figures in found.items() if figures is not None}


def work(bootstrap: str, events: int, model: Path) -> list[str]:
    """What a peer is told."""
    width = len(bundle.load(model).features)
    places = [bootstrap, OBSERVATIONS, PREDICTIONS, str(events), str(model / "model.onnx")]
    return [*places, ",".join(VITAL_SIGNS), str(width)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--faust", type=int, default=8_000, help="events for the Faust agent")
    parser.add_argument("--beds", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--model", type=Path, default=REPO / "models" / "sepsis" / "1.0.0")
    given = parser.parse_args()
    sys.stderr.write("simulating the ward\n")
    events = vitals(given.beds, given.events)
    codec = Codec(REPO / "schemas")
    seen = observations([codec.decode(e.value or b"", Vitals) for e in events], PARTITIONS)
    rounds = []
    for repetition in range(given.repetitions):
        rounds.append(round_of(given, events, seen))
        told = ", ".join(f"{name} {of.events_per_s:,.0f}" for name, of in rounds[-1].items())
        sys.stderr.write(f"{repetition + 1}: events/s: {told}\n")
    names = [name for name in rounds[0] if all(name in each for each in rounds)]
    figures, ratios = {}, {}
    for name in names:
        figures[f"{name}_events_per_s"] = spread([each[name].events_per_s for each in rounds])
        figures[f"{name}_cpu_us_per_event"] = spread([each[name].cpu_us for each in rounds])
        if not name.startswith("scoring"):
            faster = [each["scoring"].events_per_s / each[name].events_per_s for each in rounds]
            leaner = [each[name].cpu_us / each["scoring"].cpu_us for each in rounds]
            ratios[name], ratios[f"{name}_cpu"] = spread(faster), spread(leaner)
    did = f"{len(events)} vitals events of {given.beds} beds, {PARTITIONS} partitions, backlog"
    print(line("scoring", figures, ratios, did=did, repetitions=given.repetitions))


def prepare(bootstrap: str, events: Sequence[Output]) -> None:
    options = {"bootstrap.servers": bootstrap}
    for name in (VITALS, PREDICTIONS, ALERTS, OBSERVATIONS):
        create_topic(options, name, partitions=PARTITIONS, config=SIZE)
    publisher, confirmed = Publisher(options), list[bool]()
    for number, event in enumerate(events):
        publisher.send(event, confirmed.append)
        if number % FLUSH_EVERY == 0:
            publisher.flush(60)
    publisher.flush(60)
    assert confirmed == [True] * len(events)


if __name__ == "__main__":
    main()
