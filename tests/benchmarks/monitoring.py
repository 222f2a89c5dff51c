"""`make bench NAME=monitoring`: the whole work of one monitoring worker, on a log that waits.

Consume committed records, decode, count patient-hours, publish tallies, judge them, write state.
The peer is Faust as it comes, with one table write per prediction.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import faust
import msgspec
import numpy as np
from report import line, spread
from scoring import scorer, vitals

from services.core.baseline import (
    VITAL_FEATURES,
    Baseline,
    Baselines,
    CohortReference,
    FeatureReference,
)
from services.core.events import PredictionBatch, packed
from services.core.windows import DAY
from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.monitoring.__main__ import TABLES, tasks
from services.monitoring.app import Monitor, Wiring
from services.monitoring.detectors import adwin
from services.monitoring.families import families
from services.monitoring.outputs import (
    DEAD_LETTERS,
    LABELLED,
    METRICS,
    PREDICTIONS,
    TALLIES,
)
from services.runtime.codec import Codec
from services.runtime.envelope import SIGNALS
from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import ends
from services.runtime.ports import Output, Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.progress import Progress
from services.scoring.outputs import VITALS
from services.scoring.pipeline import Scoring

PARTITIONS = 4
SIZES = (1, 10, 100)
PERSON = np.dtype("V16")


class Meter:
    """Hears when the first record was handled and when all predictions were settled."""

    def __init__(self, messages: int) -> None:
        self._left = messages
        self.began = self.ended = 0.0
        self.cpu_began = self.cpu_ended = 0.0
        self.done = asyncio.Event()

    def handled(self, records: Sequence[Record], _: Sequence[Output]) -> None:
        if not self.began:
            self.began, self.cpu_began = time.monotonic(), time.process_time()
        self._left -= sum(record.topic == PREDICTIONS for record in records)
        if self._left <= 0:
            self.done.set()  # the worker flushes what is left, and ends

    def committed(self, _: float) -> None:
        if self.done.is_set():
            self.ended, self.cpu_ended = time.monotonic(), time.process_time()


def reference() -> Baseline:
    """Ten bins for every feature, so that all histograms are counted."""
    feature = FeatureReference(
        edges=tuple(np.linspace(20, 180, 9).tolist()),
        weights=(10.0,) * 10,
        patients=100,
        mean=80.0,
        sd=20.0,
        nulls=(),
    )
    presence = msgspec.structs.replace(feature, edges=(0.5,), weights=(50.0, 50.0))
    features = {n: presence if n.endswith(".presence") else feature for n in VITAL_FEATURES}
    cohort = CohortReference(patients=100, hours=2400, features=features)
    return Baseline(kind="site", name="bench", cohorts={"all": cohort})


def scored(bootstrap: str, codec: Codec, size: int, events: Sequence[Output]) -> list[Any]:
    """Prediction batches of `size` entries as scoring makes them of a simulated ward."""
    shared = scorer(bootstrap, REPO / "models" / "sepsis" / "1.0.0", [])
    found = []
    for partition in range(PARTITIONS):
        task = Scoring(partition, shared)
        values = [e.value for e in events[partition::PARTITIONS]]
        for start in range(0, len(values), size):
            records = [
                Record(VITALS, partition, start + i, 0, None, value)
                for i, value in enumerate(values[start : start + size])
            ]
            outputs = [o for o in task.handle(records) if o.topic == PREDICTIONS]
            found += [codec.decode(o.value or b"", PredictionBatch) for o in outputs]
    return found


def later(batch: PredictionBatch, copy: int, span: int) -> PredictionBatch:
    """The same entries of other patients, `copy` spans later."""
    people = np.frombuffer(batch.pseudonyms, "<u8") + np.uint64(copy)
    measured = np.frombuffer(batch.measured_at, "<i8") + copy * span
    return msgspec.structs.replace(
        batch,
        pseudonyms=people.tobytes(),
        measured_at=packed(measured, "<i8"),
        watermark=None if batch.watermark is None else batch.watermark + copy * span,
    )


def log_of(batches: Sequence[PredictionBatch], predictions: int) -> Iterator[PredictionBatch]:
    """As many distinct predictions as are asked for, or a few more."""
    entries = sum(batch.entries for batch in batches)
    for copy in range(max(1, round(predictions / entries))):
        for batch in batches:
            yield later(batch, copy, DAY)


def send(bootstrap: str, codec: Codec, batches: Sequence[PredictionBatch]) -> None:
    """Make the topics, and write the log."""
    options = {"bootstrap.servers": bootstrap}
    for name in (PREDICTIONS, LABELLED, TALLIES, METRICS, SIGNALS, DEAD_LETTERS):
        size = {"max.message.bytes": "2097152"}
        create_topic(options, name, partitions=PARTITIONS, config=size)
    for name in ("monitoring-folds", "monitoring-merged", "stock-counts"):
        compact = {"cleanup.policy": "compact", "max.message.bytes": "2097152"}
        create_topic(options, f"{name}-changelog", partitions=PARTITIONS, config=compact)
    publisher, confirmed = Publisher(options, delivery_timeout_s=60), list[bool]()
    for number, batch in enumerate(batches):
        output = Output(PREDICTIONS, None, codec.encode(batch), batch.partition)
        publisher.send(output, confirmed.append)
        if number % 200 == 199:
            publisher.flush(60)
    publisher.flush(60)
    assert confirmed == [True] * len(batches)


async def ours(bootstrap: str, codec: Codec, messages: int) -> Meter:
    """One worker with everything on, until the log is settled."""
    wiring = Wiring(service="monitoring", partitions=PARTITIONS, tables=TABLES, member="bench")
    watched = families(Baselines([(0, reference())]).at)
    progress = Progress(Metrics(Build.of("monitoring")), time.monotonic)
    meter = Meter(messages)
    made = tasks(watched, codec, sources=PARTITIONS)
    options = {"bootstrap.servers": bootstrap}
    monitor = Monitor(wiring, options, made, meter=meter, progress=progress)
    await monitor.run(meter.done)
    return meter


async def stock(bootstrap: str, codec: Codec, predictions: int, folder: str) -> Meter:
    """Faust as it comes: an agent that counts each prediction of a patient in a table.

    It is done when the log holds so many of its writes, as ours is.
    """
    app = faust.App(
        "stock",
        broker=f"kafka://{bootstrap}",
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        datadir=folder,
    )
    source = app.topic(PREDICTIONS, key_type=bytes, value_type=bytes, value_serializer="raw")
    counts = app.Table(
        "counts", key_type=bytes, value_type=int, default=int, partitions=PARTITIONS
    )
    meter = Meter(predictions)

    async def count(stream: Any) -> None:
        async for value in stream:
            meter.handled([Record(PREDICTIONS, 0, 0, 0, None, None)], [])
            batch = codec.decode(value, PredictionBatch)
            for person in np.frombuffer(batch.pseudonyms, PERSON).tolist():
                counts[person] += 1

    app.agent(source)(count)
    app.finalize()
    await app.maybe_start()
    places = [("stock-counts-changelog", number) for number in range(PARTITIONS)]
    options = {"bootstrap.servers": bootstrap}
    while sum((await asyncio.to_thread(ends, options, places)).values()) < predictions:  # noqa: ASYNC110 - Kafka tells nobody of an end, one has to ask
        await asyncio.sleep(0.01)
    meter.done.set()
    meter.committed(0)
    await app.stop()
    return meter


def rates(size: int, given: argparse.Namespace, codec: Codec) -> tuple[float, float, float]:
    """Predictions per second of ours and of the stock agent, and µs of CPU of ours for each."""
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port(), cache=here().cache).start()
        try:
            create_topic({"bootstrap.servers": broker.bootstrap}, VITALS, partitions=1, config={})
            batches = scored(broker.bootstrap, codec, size, given.events)
            count = min(given.predictions, given.messages * size)
            log = list(log_of(batches, count))
            send(broker.bootstrap, codec, log)
            many = sum(batch.entries for batch in log)
            meter = asyncio.run(ours(broker.bootstrap, codec, len(log)))
            part = min(given.stock, many // 2)
            peer = asyncio.run(stock(broker.bootstrap, codec, part, folder))
        finally:
            broker.stop()
    cpu_us = (meter.cpu_ended - meter.cpu_began) / many * 1e6
    return many / (meter.ended - meter.began), part / (peer.ended - peer.began), cpu_us


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--predictions", type=int, default=400_000)
    parser.add_argument("--messages", type=int, default=10_000, help="of each size, at most")
    parser.add_argument("--stock", type=int, default=20_000, help="predictions for the peer")
    parser.add_argument("--beds", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    codec = Codec(REPO / "schemas")
    adwin(())  # loads river, as the service does before it reads
    sys.stderr.write("simulating the ward\n")
    given.events = vitals(given.beds, 4_000)
    figures, ratios = {}, {}
    mine: Sequence[float] = ()
    singles: Sequence[float] = ()
    for size in SIZES:
        runs = [rates(size, given, codec) for _ in range(given.repetitions)]
        mine, peers, cpu = zip(*runs, strict=True)
        singles = singles or peers
        figures[f"predictions_per_s_at_{size}"] = spread(mine)
        figures[f"stock_predictions_per_s_at_{size}"] = spread(peers)
        figures[f"cpu_us_per_prediction_at_{size}"] = spread(cpu)
        ratios[f"faust_agent_with_table_at_{size}"] = spread(
            [a / b for a, b in zip(mine, peers, strict=True)]
        )
        sys.stderr.write(f"{size}: {mine[-1]:,.0f}/s, stock {peers[-1]:,.0f}/s\n")
    ratios["batches_to_faust_agent_of_single_predictions"] = spread(
        [a / b for a, b in zip(mine, singles, strict=True)]
    )
    did = f"predictions of {given.beds} beds, {PARTITIONS} partitions, backlog, one worker"
    print(line("monitoring", figures, ratios, did=did, repetitions=given.repetitions))


if __name__ == "__main__":
    main()
