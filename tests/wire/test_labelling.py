"""Labelling under kills: no revision lost or doubled, and the labels as if nothing had been."""

import contextlib
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from batches import Scored, batch
from joining import CODEC, alert, at, feedback, fields, final, outcome, progress
from lives import PATIENCE_S, Lives, until
from typing_extensions import override

from services.core.errors import Retry
from services.core.events import Authority, Labelled
from services.core.labels import Rule
from services.labelling.outputs import (
    ALERTS,
    CHANGELOG,
    DEAD_LETTERS,
    FEEDBACK,
    INPUTS,
    LABELLED,
    OUTCOMES,
    PREDICTIONS,
)
from services.labelling.pipeline import Labeller, Labelling
from services.local.home import REPO
from services.local.kafka import Broker
from services.runtime.kafka.admin import create_topic, partitions_of
from services.runtime.kafka.group import GroupReader, Partition
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import ends, scan, stable_ends
from services.runtime.ports import Output, Record

pytestmark = pytest.mark.wire

PARTITIONS = 4
BEDS = 5  # per partition
STAY_H = 20
STEP_S = 0.02
STEP_H = 1 / 6  # a step of the ward takes ten minutes of its time
LONGEST_H = 150  # below the reach of labelling: how far topics run ahead must not matter
SLOWER_H = 30
"""After so long each step takes twice its time: there is work however late a life comes."""


class Ward(threading.Thread):
    """Writes what scoring and the gateway would, an hour of its time every few real ticks."""

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.enough = threading.Event()
        self.hours = 0.0
        self.unconfirmed = -1
        self._publisher = Publisher(options)
        self._random = random.Random(4)  # noqa: S311 - a ward, not a secret
        self._numbers = itertools.count()

    @override
    def run(self) -> None:
        for step in itertools.count():
            self.hours = step * STEP_H
            if self.enough.is_set() or self.hours >= LONGEST_H:
                break
            for partition in range(PARTITIONS):
                self._step(partition, step)
            self.enough.wait(STEP_S * 2 ** (self.hours / SLOWER_H))
        for partition in range(PARTITIONS):
            self._send(PREDICTIONS, partition, batch([], watermark=at(self.hours + 1)))
            self._send(OUTCOMES, partition, progress("last", self.hours))
        self.unconfirmed = self._publisher.flush(PATIENCE_S)

    def _step(self, partition: int, step: int) -> None:
        entries = []
        for bed in range(BEDS):
            shift = STAY_H * bed / BEDS
            who = self._patient(partition, bed, int((self.hours + shift) // STAY_H))
            score = self._random.random()
            entries.append(Scored(who=who, at=at(self.hours), score=score))
            if score > 0.97:
                self._alert(partition, who)
            if self._random.random() < 0.01:
                self._outcome(partition, who)
        self._send(PREDICTIONS, partition, batch(entries, watermark=at(self.hours)))
        if step % 30 == 0:
            self._send(OUTCOMES, partition, progress(f"p {step}", self.hours))

    def _patient(self, partition: int, bed: int, stay: int) -> int:
        return 1 + partition + PARTITIONS * (bed + BEDS * stay)

    def _alert(self, partition: int, who: int) -> None:
        number = next(self._numbers)
        raised = alert(who, self.hours, number=number)
        answers = [feedback(f"{number} {n}", number, self.hours + n / 4) for n in range(2)]
        # An answer may overtake its alert, and one be sent again.
        for event in self._random.sample([raised, *answers, answers[0]], 4):
            self._send(ALERTS if event is raised else FEEDBACK, partition, event)

    def _outcome(self, partition: int, who: int) -> None:
        told = outcome(
            str(next(self._numbers)),
            who,
            self.hours,
            authority=self._random.choice([Authority.CODED, Authority.FINAL]),
            onset_at=self._random.choice([None, at(self.hours - self._random.random() * 6)]),
        )
        self._send(OUTCOMES, partition, told)

    def _send(self, topic: str, partition: int, event: msgspec.Struct) -> None:
        self._publisher.send(Output(topic, None, CODEC.encode(event), partition), lambda _: None)


class Bench:
    """A cluster with the topics of labelling, and the lives of its one instance."""

    def __init__(self, node: Broker, log: Path) -> None:
        self.options = {"bootstrap.servers": node.bootstrap}
        self._log = log
        for topic in (*INPUTS, DEAD_LETTERS, LABELLED):
            create_topic(self.options, topic, partitions=PARTITIONS, config={})
        compact = {"cleanup.policy": "compact"}
        create_topic(self.options, CHANGELOG, partitions=PARTITIONS, config=compact)

    def start(self) -> None:
        given = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.options["bootstrap.servers"],
            "VIGIL_SCHEMAS": str(REPO / "schemas"),
        }
        words = [sys.executable, "-m", "services.labelling"]
        self.service = Lives("labelling", words, self._log, given).start()

    def kill_inside_a_transaction(self) -> None:
        """Freeze the service; kill it if its transaction is open, else try again."""
        places = partitions_of(self.options, [LABELLED, CHANGELOG])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, "no transaction was ever open"
            self.service.send(signal.SIGSTOP)
            if self._open(places) and self._open(places):
                self.service.close()
                return
            self.service.send(signal.SIGCONT)
            time.sleep(0.003)

    def _open(self, places: list[Partition]) -> bool:
        try:
            high, stable = ends(self.options, places), stable_ends(self.options, places)
        except Retry:
            return False
        return any(stable[place] < high[place] for place in places)

    def records(self, *topics: str) -> Iterator[Record]:
        return scan(self.options, partitions_of(self.options, list(topics)), patience_s=PATIENCE_S)

    def said(self) -> list[tuple[int, Labelled]]:
        found = self.records(LABELLED)
        return [(r.partition, CODEC.decode(r.value or b"", Labelled)) for r in found]

    def watermarks(self) -> dict[int, int]:
        last: dict[int, int] = {}
        for partition, each in self.said():
            last[partition] = each.watermark or 0
        return last


@pytest.fixture
def bench(broker: Callable[[], Broker], tmp_path: Path) -> Iterator[Bench]:
    made = Bench(broker(), tmp_path / "labelling.log")
    made.start()
    yield made
    made.service.close()


Final = dict[tuple[int, bytes, int], dict[str, Any] | None]


def labels_of(said: list[tuple[int, Labelled]]) -> Final:
    """Each hour as it was said last; fails where a revision is missing, doubled or torn."""
    found: Final = {}
    for partition in range(PARTITIONS):
        last = final(each for place, each in said if place == partition)
        found |= {(partition, *key): fields(each.now) for key, each in last.items()}
    return found


def undisturbed(bench: Bench) -> Final:
    """Run the pure task over the same logs, as far as possible in the order in which they came."""
    said = []
    log = sorted(bench.records(*INPUTS), key=lambda record: record.timestamp_ms)
    for partition in range(PARTITIONS):
        task = Labelling(partition, Labeller(CODEC, Rule(), lambda *_: None))
        outputs = task.handle([record for record in log if record.partition == partition])
        said += [(partition, o.value or b"") for o in outputs if o.topic == LABELLED]
    return labels_of([(partition, CODEC.decode(value, Labelled)) for partition, value in said])


def test_two_kills_in_flight_lose_no_revision_double_none_and_change_no_label(
    bench: Bench,
) -> None:
    ward = Ward(bench.options)
    ward.start()
    for _ in range(2):
        known = len(bench.said())
        until(lambda known=known: len(bench.said()) > known + 50)  # type: ignore[misc]  # bound now
        bench.kill_inside_a_transaction()
        bench.start()
    ward.enough.set()
    ward.join(PATIENCE_S)
    assert ward.unconfirmed == 0
    assert ward.hours < LONGEST_H
    end = at(ward.hours + 1)
    until(lambda: bench.watermarks() == dict.fromkeys(range(PARTITIONS), end))
    expected = undisturbed(bench)
    with contextlib.suppress(AssertionError):
        until(lambda: labels_of(bench.said()) == expected)
    assert labels_of(bench.said()) == expected

    assert sum(1 for _ in bench.records(DEAD_LETTERS)) == 0
    told = Counter(label["label"] for label in expected.values() if label)
    assert all(told[value] > 10 for value in (-1, 0, 1)), "there was something to compare"
    assert sum(bool(label and label["verdict"]) for label in expected.values()) > 10
    progress_of = Counter((p, each.hour) for p, each in bench.said() if not each.encounter)
    assert set(progress_of.values()) == {1}, "time is told once an hour, through every life"


def test_members_of_a_group_get_equal_partition_numbers_of_every_topic(kafka: str) -> None:
    options = {"bootstrap.servers": kafka}
    prefix = f"t{time.monotonic_ns()}"
    names = [f"{prefix}.{topic}" for topic in INPUTS]
    for name in names:
        create_topic(options, name, partitions=PARTITIONS, config={})
    held: list[set[Partition]] = [set(), set()]

    def member(place: int) -> GroupReader:
        instance = f"{prefix}-{place}"
        reader = GroupReader(options, group=prefix, instance=instance, topics=names)
        taken = held[place]
        gone = taken.difference_update
        reader.join(gained=taken.update, revoked=gone, lost=gone)
        return reader

    def settled() -> bool:
        for reader in readers:
            reader.read(0.05)
        return [len(each) for each in held] == [PARTITIONS * len(names) // 2] * 2

    readers = [member(0), member(1)]
    try:
        until(settled)
    finally:
        told = [set(each) for each in held]
        for reader in readers:
            reader.close()
    for each in told:
        numbers = {number for _, number in each}
        assert len(numbers) == PARTITIONS // 2
        assert each == {(name, number) for name in names for number in numbers}
    assert not told[0] & told[1]
