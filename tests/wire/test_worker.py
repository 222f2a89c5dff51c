"""The promise everything rests on: state, outputs and offsets change together or not at all."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import ends, scan, stable_ends
from services.runtime.ports import Output

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
        self.lives: list[subprocess.Popen[bytes]] = []
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
    ) -> subprocess.Popen[bytes]:
        words = [
            *(sys.executable, str(SERVICE), "--bootstrap", self.bootstrap),
            *("--service", f"{self.prefix}.{name}", "--instance", str(instance)),
            *("--input", f"{self.prefix}.in", "--output", f"{self.prefix}.{name}.out"),
            *("--changelog", f"{self.prefix}.{name}.changelog"),
            *("--bug", bug),
            *("--told", str(self.told(name, instance))),
            *(("--hang", str(hang)) if hang else ()),
        ]
        life = subprocess.Popen(words)
        self.lives.append(life)
        return life

    def told(self, name: str, instance: int) -> Path:
        return self.folder / f"{name}-{instance}.told"

    def send(self, first: int, count: int) -> None:
        publisher = Publisher(self.options)
        confirmed: list[bool] = []
        for number in range(first, first + count):
            key = b"k%02d" % (number * 7 % KEYS)
            place = number * 7 % KEYS % PARTITIONS
            publisher.send(Output(f"{self.prefix}.in", key, b"x", place), confirmed.append)
        assert publisher.flush(30) == 0
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

    def count(self, name: str) -> int:
        return sum(len(values) for values in self.outputs(name).values())


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def bench(kafka: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(kafka, tmp_path)
    yield made
    for life in made.lives:
        life.kill()
        life.wait()


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
    until(hang.exists)
    life.kill()
    life.wait()
    bench.start("hurt", bug=bug)
    bench.send(400, 400)
    until(lambda: last_outputs(bench, "hurt") == 199)


def last_outputs(bench: Bench, name: str) -> int:
    """The lowest, over the partitions, of the newest input offsets that have an output."""
    offsets = [
        max((int((value or b"").rpartition(b":")[2]) for value in values), default=-1)
        for values in bench.outputs(name).values()
    ]
    return min(offsets)


def test_a_kill_comes_while_the_transaction_is_open(bench: Bench) -> None:
    bench.run("hurt")
    bench.send(0, 400)
    hang = bench.folder / "hang"
    bench.start("hurt", hang=hang)
    until(hang.exists)
    places = bench.places("hurt.out")
    until(lambda: sum(ends(bench.options, places).values()) > 0)
    assert sum(stable_ends(bench.options, places).values()) == 0


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
        life.wait()
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
    until(lambda: bench.told("moved", 1).exists() and bench.told("moved", 1).read_text() != "")
    bench.send(2000, 1000)
    until(lambda: bench.count("moved") >= 3000)
    partitions, rows = bench.told("moved", 1).read_text().rsplit(" ", 1)
    assert partitions == "[2, 3]", "range hands out partitions in order"
    assert int(rows) > 0, "the second instance restored what the first had counted"

    second.terminate()
    assert second.wait(20) == 0
    bench.send(3000, 1000)
    until(lambda: bench.count("moved") >= 4000)
    undisturbed(bench, 4000)

    assert bench.outputs("moved") == bench.outputs("calm")
    assert bench.state("moved") == bench.state("calm")
