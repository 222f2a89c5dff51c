"""Notices through the real broker: one signal opened and closed, though ingest is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import PAYLOAD_KEY, PSEUDONYM_KEY, SCHEMAS, body, codec, patient, record

from services.core.events import Signal, SignalStep
from services.local.home import REPO
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.kafka.admin import create_topic, topics
from services.runtime.kafka.client import Options
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import scan
from services.runtime.ports import Output, Record
from services.runtime.topics.files import read_topics

pytestmark = pytest.mark.wire

DEADLINE_S = 90.0
PARTITIONS = 4
MERGE = patient(link=[{"type": "replaced-by", "other": {"reference": "Patient/p-2"}}])


def tick(time: str, *, offset: int) -> Record:
    media_type = "application/vnd.vigil.tick+json"
    return record(body({"time": time}), offset=offset, media_type=media_type, received=time)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


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
        assert publisher.flush(DEADLINE_S) == 0

    def values(self, topic: str) -> list[bytes]:
        places = [(topic, number) for number in range(PARTITIONS)]
        return [r.value for r in scan(self.options, places, patience_s=20) if r.value]

    def steps(self) -> list[Signal]:
        return [codec().decode(value, Signal) for value in self.values("signals.v1")]

    @contextmanager
    def ingest(self) -> Iterator["subprocess.Popen[bytes]"]:
        command = [sys.executable, "-m", "services.ingest"]
        process = subprocess.Popen(command, cwd=REPO, env=self.environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


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
    wanted = {topic.topic for topic in read_topics(SCHEMAS)}
    try:
        until(lambda: topics(options).keys() >= wanted)
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
        first.send_signal(signal.SIGKILL)
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
