"""Notices through the real broker: one signal opened and closed, though ingest is killed."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import PAYLOAD_KEY, PSEUDONYM_KEY, SCHEMAS, body, codec, patient, record
from lives import PATIENCE_S, Lives, until

from services.core.events import Signal, SignalStep
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.client import Options
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import scan
from services.runtime.ports import Output, Record
from services.runtime.topics.files import read_topics

pytestmark = pytest.mark.wire

PARTITIONS = 4
MERGE = patient(link=[{"type": "replaced-by", "other": {"reference": "Patient/p-2"}}])


def tick(time: str, *, offset: int) -> Record:
    media_type = "application/vnd.vigil.tick+json"
    return record(body({"time": time}), offset=offset, media_type=media_type, received=time)


class World:
    """A broker with every topic, and the environment of ingest."""

    def __init__(self, options: Options, environment: dict[str, str]) -> None:
        self.options, self.environment = options, environment

    def send(self, *records: Record) -> None:
        """Write raw records, each to the partition after that of the last."""
        publisher = Publisher(self.options)
        for number, raw in enumerate(records):
            output = Output(raw.topic, b"k", raw.value, number % PARTITIONS, raw.headers)
            publisher.send(output, lambda delivered: None)  # noqa: ARG005 - the flush tells
        assert publisher.flush(PATIENCE_S) == 0

    def values(self, topic: str) -> list[bytes]:
        places = [(topic, number) for number in range(PARTITIONS)]
        return [r.value for r in scan(self.options, places, patience_s=PATIENCE_S) if r.value]

    def steps(self) -> list[Signal]:
        return [codec().decode(value, Signal) for value in self.values("signals.v1")]

    def ingest(self) -> Lives:
        log = Path(self.environment["VIGIL_HOME"], "ingest.log")
        return Lives("ingest", [sys.executable, "-m", "services.ingest"], log, self.environment)


@pytest.fixture
def world(jar_cache: Path, tmp_path: Path) -> Iterator[World]:
    node = Broker(tmp_path / "kafka", free_port(), cache=jar_cache).start()
    options: Options = {"bootstrap.servers": node.bootstrap}
    told = {
        "KAFKA_BOOTSTRAP_SERVERS": node.bootstrap,
        "VIGIL_SCHEMAS": str(SCHEMAS),
        "VIGIL_HOME": str(tmp_path),
    }
    for name, key in (("PSEUDONYM", PSEUDONYM_KEY), ("PAYLOAD", PAYLOAD_KEY)):
        path = tmp_path / name
        path.write_text(key.hex())
        path.chmod(0o600)
        told[f"VIGIL_{name}_KEY_FILE"] = str(path)
    for topic in read_topics(SCHEMAS):
        create_topic(options, topic.topic, partitions=PARTITIONS, config=topic.settings())
    try:
        yield World(options, {**os.environ, **told})
    finally:
        node.stop()


def test_merges_in_every_partition_open_one_signal_that_a_day_without_another_closes(
    world: World,
) -> None:
    world.send(*[record(MERGE, offset=number) for number in range(2 * PARTITIONS)])
    with world.ingest() as first:
        until(lambda: len(world.steps()) == 1)
        until(lambda: len(world.values("notices.v1")) == 2 * PARTITIONS)
        first.kill()
    world.send(
        record(MERGE, offset=90),
        tick("2026-01-06T08:00:29Z", offset=91),
    )
    with world.ingest():
        until(lambda: len(world.values("notices.v1")) == 2 * PARTITIONS + 2)
        world.send(tick("2026-01-06T08:00:30Z", offset=92))
        until(lambda: len(world.steps()) == 2)
    opened, closed = world.steps()
    assert (opened.step, closed.step) == (SignalStep.OPENED, SignalStep.CLOSED)
    assert opened.signal_id == closed.signal_id == "patient_merge--source=west-1767600030"
    assert closed.evidence[0].value == str(2 * PARTITIONS + 1)
