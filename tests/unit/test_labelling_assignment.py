"""One task for a partition number of several topics, however these come and go."""

from collections.abc import Iterable, Sequence

import pytest

from services.runtime.kafka.group import Partition
from services.runtime.ports import Output, Record, Stateless
from services.runtime.worker import Plan, Worker


class Remembering(Stateless):
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        self.seen += [(record.topic, record.offset) for record in records]
        return ()


class Unheard:
    def handled(self, records: Sequence[Record], outputs: Sequence[Output]) -> None: ...

    def committed(self, seconds: float) -> None: ...

    def assigned(self, partitions: Sequence[Partition], rows: int) -> None: ...

    def behind(self, lag: dict[Partition, int]) -> None: ...


class NoBroker:
    """Takes what is written and keeps nothing."""

    def begin(self) -> None: ...

    def write(self, outputs: Sequence[Output]) -> None: ...


@pytest.fixture
def made() -> list[Remembering]:
    return []


@pytest.fixture
def worker(made: list[Remembering]) -> Worker:
    def make(_: int) -> Remembering:
        made.append(Remembering())
        return made[-1]

    plan = Plan(service="s", instance=0, inputs=("a", "b"))
    worker = Worker(plan, {"bootstrap.servers": "127.0.0.1:1"}, make, Unheard(), lambda: 0.0)
    worker._publisher = NoBroker()  # type: ignore[assignment]  # no broker is asked here
    return worker


def read(topic: str, partition: int, offset: int) -> Record:
    return Record(topic, partition, offset, 0, None, None)


def test_topics_that_come_together_share_a_task(worker: Worker, made: list[Remembering]) -> None:
    worker._gained([("a", 0), ("b", 0), ("a", 1), ("b", 1)])
    assert len(made) == 2
    worker._handle([read("a", 0, 5), read("b", 0, 6)])
    assert made[0].seen == [("a", 5), ("b", 6)]


def test_a_topic_that_comes_later_does_not_replace_a_living_task(
    worker: Worker, made: list[Remembering]
) -> None:
    worker._gained([("a", 0)])
    worker._gained([("b", 0)])
    assert len(made) == 1


def test_a_task_ends_with_the_last_of_its_topics(worker: Worker, made: list[Remembering]) -> None:
    worker._gained([("a", 0), ("b", 0)])
    worker._revoked([("a", 0)])
    worker._handle([read("b", 0, 1)])
    assert made[0].seen == [("b", 1)]
    worker._forget([("b", 0)])
    worker._gained([("a", 0), ("b", 0)])
    assert len(made) == 2


def test_what_was_read_of_a_partition_that_is_given_up_is_left_to_its_next_owner(
    worker: Worker, made: list[Remembering]
) -> None:
    worker._gained([("a", 0), ("a", 1)])
    worker._revoked([("a", 1)])
    worker._handle([read("a", 1, 7)])
    assert worker.began is None
    worker._handle([read("a", 0, 3), read("a", 1, 7)])
    assert [task.seen for task in made] == [[("a", 3)], []]
    assert worker._offsets == {("a", 0): 4}
