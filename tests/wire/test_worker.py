"""The promise everything rests on: state, outputs and offsets change together or not at all."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from lives import PATIENCE_S, Lives, until

from services.core.errors import ExitCode
from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.client import shut_doors_raise_retry
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import ends, scan, stable_ends
from services.runtime.ports import Output, Record, Stateless
from services.runtime.worker import Plan, Worker

pytestmark = [pytest.mark.wire, pytest.mark.slow]

PARTITIONS = 4
KEYS = 40
SERVICE = Path(__file__).with_name("counting_service.py")


class Bench:
    """Topics of one test, and the services that work on them."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.options = {"bootstrap.servers": bootstrap}
        self.bootstrap, self.folder = bootstrap, folder
        self.prefix = f"t{time.monotonic_ns()}"
        self.lives = ExitStack()
        self.topic("in")

    def topic(self, name: str) -> str:
        full = f"{self.prefix}.{name}"
        compact = {"cleanup.policy": "compact"} if name.endswith("changelog") else {}
        create_topic(self.options, full, partitions=PARTITIONS, config=compact)
        return full

    def run(self, name: str) -> None:
        """Make the topics of a run of the service under a name of its own."""
        self.topic(f"{name}.out")
        self.topic(f"{name}.changelog")

    def start(
        self, name: str, *, instance: int = 0, hang: Path | None = None, bug: str = "none"
    ) -> Lives:
        words = [
            *(sys.executable, str(SERVICE), "--bootstrap", self.bootstrap),
            *("--service", f"{self.prefix}.{name}", "--instance", str(instance)),
            *("--input", f"{self.prefix}.in", "--output", f"{self.prefix}.{name}.out"),
            *("--changelog", f"{self.prefix}.{name}.changelog"),
            *("--bug", bug),
            *("--told", str(self.told(name, instance))),
            *(("--hang", str(hang)) if hang else ()),
        ]
        title = f"{name}-{instance}"
        return self.lives.enter_context(Lives(title, words, self.folder / f"{title}.log"))

    def told(self, name: str, instance: int) -> Path:
        return self.folder / f"{name}-{instance}.told"

    def held(self, name: str, instance: int) -> tuple[str, int]:
        """Which partitions an instance holds, and how many rows it restored for them."""
        path = self.told(name, instance)
        partitions, _, rows = (path.read_text() if path.exists() else "").rpartition(" ")
        return partitions, int(rows or "0")

    def send(self, first: int, count: int) -> None:
        publisher = Publisher(self.options)
        confirmed: list[bool] = []
        for number in range(first, first + count):
            key = b"k%02d" % (number * 7 % KEYS)
            place = number * 7 % KEYS % PARTITIONS
            publisher.send(Output(f"{self.prefix}.in", key, b"x", place), confirmed.append)
        assert publisher.flush(PATIENCE_S) == 0
        assert confirmed == [True] * count

    def places(self, name: str) -> list[tuple[str, int]]:
        return [(f"{self.prefix}.{name}", p) for p in range(PARTITIONS)]

    def outputs(self, name: str) -> dict[int, list[bytes | None]]:
        found: dict[int, list[bytes | None]] = {p: [] for p in range(PARTITIONS)}
        for record in scan(self.options, self.places(f"{name}.out"), patience_s=20):
            found[record.partition].append(record.value)
        return found

    def state(self, name: str) -> dict[bytes | None, bytes | None]:
        rows = scan(self.options, self.places(f"{name}.changelog"), patience_s=20)
        return {record.key: record.value for record in rows}

    def sent(self) -> dict[tuple[str, int], int]:
        return ends(self.options, self.places("in"))

    def through(self, name: str) -> bool:
        """Whether the service's group has gone through all that was sent."""
        places = self.places("in")
        consumer = Consumer({**self.options, "group.id": f"{self.prefix}.{name}"})
        with closing(consumer), shut_doors_raise_retry("committed offsets"):
            answer = consumer.committed([TopicPartition(*place) for place in places], 20)
        return {(p.topic, p.partition): p.offset for p in answer} == ends(self.options, places)

    def open_transaction(self, name: str) -> bool:
        places = self.places(f"{name}.out")
        high, stable = ends(self.options, places), stable_ends(self.options, places)
        return any(stable[place] < high[place] for place in places)

    def count(self, name: str) -> int:
        return sum(len(values) for values in self.outputs(name).values())


@pytest.fixture
def bench(kafka: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(kafka, tmp_path)
    with made.lives:
        yield made


def undisturbed(bench: Bench, records: int) -> None:
    bench.run("calm")
    bench.start("calm")
    until(lambda: bench.count("calm") == records)


def hurt_once(bench: Bench, bug: str = "none") -> None:
    """Send, kill at the worst moment, start again, send the rest, and wait until it is through."""
    bench.run("hurt")
    bench.send(0, 400)
    hang = bench.folder / "hang"
    life = bench.start("hurt", hang=hang, bug=bug)
    # Where offsets go first, a life that found a door shut leaves nothing for the next to hang at.
    until(lambda: hang.exists() or bench.through("hurt"))
    life.kill()
    life = bench.start("hurt", bug=bug)
    bench.send(400, 400)
    until(lambda: bench.through("hurt"))
    # One that commits its offsets first may have outputs on their way.
    assert life.end() == ExitCode.OK


def test_a_kill_comes_while_the_transaction_is_open(bench: Bench) -> None:
    bench.run("hurt")
    bench.send(0, 400)
    hang = bench.folder / "hang"
    bench.start("hurt", hang=hang)
    until(lambda: hang.exists() and bench.open_transaction("hurt"))


def test_a_kill_inside_an_open_transaction_changes_neither_outputs_nor_state(bench: Bench) -> None:
    hurt_once(bench)
    undisturbed(bench, 800)

    assert bench.outputs("hurt") == bench.outputs("calm")
    assert bench.state("hurt") == bench.state("calm")
    assert len(bench.state("calm")) == KEYS


@pytest.mark.parametrize(
    ("bug", "told_by"),
    [("commits-before-it-produces", "less"), ("commits-offsets-outside", "more")],
)
def test_a_planted_bug_is_found_by_the_same_comparison(
    bench: Bench, bug: str, told_by: str
) -> None:
    hurt_once(bench, bug)
    undisturbed(bench, 800)

    assert bench.outputs("hurt") != bench.outputs("calm")
    assert (bench.count("hurt") < 800) == (told_by == "less")


def test_kills_in_flight_with_state_lose_nothing_and_double_nothing(bench: Bench) -> None:
    bench.run("hurt")
    for round_ in range(3):
        life = bench.start("hurt")
        before = bench.count("hurt")
        bench.send(round_ * 1500, 1500)
        until(lambda before=before: bench.count("hurt") > before)  # type: ignore[misc]  # bound now
        life.kill()
    bench.start("hurt")
    until(lambda: bench.count("hurt") >= 4500)
    undisturbed(bench, 4500)

    assert bench.outputs("hurt") == bench.outputs("calm")
    assert bench.state("hurt") == bench.state("calm")


def test_partitions_that_move_between_instances_take_their_state_along(bench: Bench) -> None:
    bench.run("moved")
    bench.start("moved")
    bench.send(0, 1000)
    until(lambda: bench.count("moved") >= 500)
    second = bench.start("moved", instance=1)
    bench.send(1000, 1000)
    until(lambda: bench.held("moved", 1)[0] != "")
    bench.send(2000, 1000)
    until(lambda: bench.count("moved") >= 3000)
    # Range hands out partitions in order, and the second restores what the first had counted.
    until(lambda: bench.held("moved", 1)[0] == "[2, 3]" and bench.held("moved", 1)[1] > 0)

    assert second.end() == ExitCode.OK
    bench.send(3000, 1000)
    until(lambda: bench.count("moved") >= 4000)
    undisturbed(bench, 4000)

    assert bench.outputs("moved") == bench.outputs("calm")
    assert bench.state("moved") == bench.state("calm")


class Echoing(Stateless):
    """One output per record, with some work; says how many times it was handed any."""

    turns = 0

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        Echoing.turns += 1
        time.sleep(0.01)  # its work
        return [Output(self._topic, r.key, b"%d" % r.offset, r.partition) for r in records]


class Unheard:
    """A meter that nobody reads."""

    def handled(self, *_: object) -> None: ...

    def committed(self, *_: object) -> None: ...

    def assigned(self, *_: object) -> None: ...

    def behind(self, *_: object) -> None: ...


def test_what_waits_is_handled_while_a_transaction_is_committed_and_is_in_the_next(
    bench: Bench,
) -> None:
    """A commit that takes as long as several readings keeps nobody from handling them."""
    bench.send(0, 10_000)
    out, stopping, overtaken = bench.topic("busy.out"), threading.Event(), list[int]()
    plan = Plan(service=f"{bench.prefix}.busy", instance=0, inputs=(f"{bench.prefix}.in",))
    worker = Worker(plan, bench.options, lambda _: Echoing(out), Unheard(), time.monotonic)
    commit = worker._publisher.commit

    def slow(*told: Any) -> None:
        before, until_s = Echoing.turns, time.monotonic() + 2
        while Echoing.turns < before + 3 and time.monotonic() < until_s:
            time.sleep(0.001)
        overtaken.append(Echoing.turns - before)
        commit(*told)

    worker._publisher.commit = slow  # type: ignore[assignment,method-assign]  # this one is slow
    thread = threading.Thread(target=worker.run, args=(stopping,))
    thread.start()
    try:
        until(lambda: bench.through("busy"))
    finally:
        stopping.set()
        thread.join()
    assert max(overtaken) >= 3
    offsets = {
        place: [b"%d" % at for at in range(end)] for (_, place), end in bench.sent().items()
    }
    assert bench.outputs("busy") == offsets
