"""Counting on Faust is exact: aborted records, deaths and moving partitions change no number."""

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from lives import PATIENCE_S, Lives, until

from services.core.errors import ExitCode
from services.monitoring.app import FROZEN_S
from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.client import shut_doors_raise_retry
from services.runtime.kafka.reader import ends, scan

pytestmark = [pytest.mark.wire, pytest.mark.slow]

PARTITIONS = 4
KEYS = 7
SERVICE = Path(__file__).with_name("watching_service.py")


class Bench:
    """The topics of one test, a feed in transactions of which every tenth is aborted, workers."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.options = {"bootstrap.servers": bootstrap}
        self.bootstrap, self.folder = bootstrap, folder
        self.prefix = f"m{time.monotonic_ns()}."
        self.service = f"{self.prefix}watch"
        for name in ("in", "tallies", "metrics"):
            create_topic(self.options, self.prefix + name, partitions=PARTITIONS, config={})
        for name in ("folds", "merged"):
            topic = f"{self.service}-{name}-changelog"
            compact = {"cleanup.policy": "compact"}
            create_topic(self.options, topic, partitions=PARTITIONS, config=compact)
        self.lives = ExitStack()
        self.committed: Counter[bytes] = Counter()
        self.aborted: Counter[bytes] = Counter()
        self._sent = 0
        self._producer = Producer(
            {
                **self.options,
                "transactional.id": self.prefix,
                "retry.backoff.ms": 2,
                "retry.backoff.max.ms": 20,
            }
        )
        self._producer.init_transactions(PATIENCE_S)

    def send(self, transactions: int) -> None:
        for number in range(self._sent, self._sent + transactions):
            abort = number % 10 == 7
            book = self.aborted if abort else self.committed
            self._producer.begin_transaction()
            for place in range(number % 5 + 1):
                key = b"k%d" % (number % KEYS)
                partition = (number * 3 + place) % PARTITIONS
                self._producer.produce(self.prefix + "in", b"x", key, partition)
                book[key] += 1
            assert self._producer.flush(PATIENCE_S) == 0
            (self._producer.abort_transaction if abort else self._producer.commit_transaction)(
                PATIENCE_S
            )
        self._sent += transactions

    def start(self, name: str = "one", *more: str) -> Lives:
        words = [
            *(sys.executable, str(SERVICE), "--bootstrap", self.bootstrap),
            *("--service", self.service, "--prefix", self.prefix),
            *("--told", str(self.folder / name), *more),
        ]
        return self.lives.enter_context(Lives(name, words, self.folder / f"{name}.log"))

    def told(self, name: str = "one") -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def places(self, topic: str) -> list[tuple[str, int]]:
        return [(self.prefix + topic, number) for number in range(PARTITIONS)]

    def counted(self) -> Counter[bytes]:
        """The last number of each key in metrics, summed where it is told by partition."""
        records = scan(self.options, self.places("metrics"), patience_s=PATIENCE_S)
        last = {record.key or b"": int(record.value or b"0") for record in records}
        found: Counter[bytes] = Counter()
        for key, number in last.items():
            found[key.split(b"/")[0]] += number
        return found

    def behind(self) -> list[int]:
        """How far the group's committed offsets are behind the ends of the source."""
        consumer = Consumer({**self.options, "group.id": self.service})
        places = self.places("in")
        with closing(consumer), shut_doors_raise_retry("committed offsets"):
            answer = consumer.committed([TopicPartition(*place) for place in places], 20)
        high = ends(self.options, places)
        return [high[(place.topic, place.partition)] - place.offset for place in answer]


@pytest.fixture
def bench(kafka: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(kafka, tmp_path)
    with made.lives:
        yield made


@contextmanager
def fed(bench: Bench) -> Iterator[None]:
    """A feed that ends when what is inside has happened, however long a machine takes for it."""
    enough = threading.Event()

    def feed() -> None:
        while not enough.is_set():
            bench.send(10)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
        assert thread.is_alive(), "what happened must happen while there is work"
    finally:
        enough.set()
        thread.join()


def more_counted(bench: Bench, than: Counter[bytes]) -> bool:
    return bench.counted().total() > than.total()


def exact(bench: Bench) -> bool:
    return bench.counted() == bench.committed


def until_exact(bench: Bench) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not exact(bench):
        lost, extra = bench.committed - bench.counted(), bench.counted() - bench.committed
        said = {"lost": lost, "extra": extra, "behind": bench.behind(), "held": bench.told()}
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def test_aborted_records_are_not_counted_and_commits_reach_the_end(bench: Bench) -> None:
    bench.send(200)
    life = bench.start("one", "--member", "one")
    bench.send(200)
    until_exact(bench)
    until(lambda: bench.told().endswith("ready"))
    until(lambda: bench.behind() == [1] * PARTITIONS)  # the marker of the last transaction
    assert life.end() == ExitCode.OK
    assert bench.aborted.total() > 100


def test_stock_faust_fails_the_same_comparison_by_the_aborted_records(bench: Bench) -> None:
    bench.send(200)
    bench.start("one", "--stock")
    until(lambda: bench.counted() == bench.committed + bench.aborted)
    assert not exact(bench)


def test_two_deaths_in_flight_change_no_number(bench: Bench) -> None:
    with fed(bench):
        for _ in range(2):
            before = bench.counted()
            life = bench.start("one", "--member", "one")
            until(lambda before=before: more_counted(bench, before))  # type: ignore[misc]  # bound now
            life.kill()
    bench.start("one", "--member", "one")
    until_exact(bench)


def test_a_second_worker_that_comes_and_goes_changes_no_number(bench: Bench) -> None:
    with fed(bench):
        bench.start("one")
        until(lambda: bench.told().startswith("4"))
        second = bench.start("two")
        until(lambda: bench.told("two").startswith("2") and bench.told().startswith("2"))
        before = bench.counted()
        until(lambda: more_counted(bench, before))
        assert second.end() == ExitCode.OK
    until_exact(bench)
    until(lambda: bench.told().startswith("4"))


def test_a_worker_that_was_frozen_while_another_took_over_dies_and_spoils_nothing(
    bench: Bench,
) -> None:
    frozen = bench.start("one", "--member", "same")
    with fed(bench):
        until(lambda: bench.counted().total() > 0)
        lived = len(frozen.codes)
        frozen.send(signal.SIGSTOP)
        stopped, before = time.monotonic(), bench.counted()
        second = bench.start("two", "--member", "same")
        until(lambda: more_counted(bench, before))
    until(lambda: exact(bench) and time.monotonic() - stopped > FROZEN_S + 1)
    frozen.send(signal.SIGCONT)
    until(lambda: len(frozen.codes) > lived)
    assert frozen.codes[lived] == ExitCode.CRASH
    frozen.kill()
    second.kill()
    bench.start("one", "--member", "same")
    bench.send(100)
    until_exact(bench)
