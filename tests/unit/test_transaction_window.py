"""How long a transaction takes in records: as long as the last commit took, within bounds."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from services.core.errors import Retry
from services.runtime.kafka.client import gathering
from services.runtime.kafka.group import AT_ONCE, Partition
from services.runtime.ports import Output, Record, Row, Stateless
from services.runtime.worker import (
    LONGEST_S,
    MANY_BYTES,
    PART_BYTES,
    SHORTEST_S,
    Plan,
    Worker,
    parts,
)

STEP_S = 0.001
RECORD = Record("a", 0, 0, 0, None, None)
LARGE = Record("a", 0, 0, 0, None, bytes(MANY_BYTES // 4))


class Ignoring(Stateless):
    def handle(self, _: Sequence[Record]) -> Iterable[Output]:
        return ()


class World:
    """Clock, broker and meter in one: reads of STEP_S each, commits as slow as they are told."""

    def __init__(
        self,
        commits_s: Sequence[float],
        records: int,
        *,
        at_once: int = 1,
        record: Record = RECORD,
    ) -> None:
        self.now, self._commits_s, self._left = 0.0, list(commits_s), records
        self._at_once, self._record = at_once, record
        self.lasted_s: list[float] = []
        self._began = 0.0

    def read(self, _: float) -> list[Record]:
        self.now += STEP_S
        self._left -= self._at_once
        return [self._record] * self._at_once if self._left >= 0 else []

    def begin(self) -> None:
        self._began = self.now

    def write(self, outputs: Sequence[Output]) -> None: ...

    def commit(self, _: Mapping[Partition, int], __: object, ___: float) -> None:
        self.lasted_s.append(self.now - self._began)
        self.now += self._commits_s.pop(0)

    def handled(self, records: Sequence[Record], outputs: Sequence[Output]) -> None: ...

    def committed(self, seconds: float) -> None: ...

    def assigned(self, partitions: Sequence[Partition], rows: int) -> None: ...

    def behind(self, lag: dict[Partition, int]) -> None: ...


def worker_in(world: World) -> Worker:
    plan = Plan(service="s", instance=0, inputs=("a",))
    options = {"bootstrap.servers": "127.0.0.1:1"}
    made: Any = Worker(plan, options, lambda _: Ignoring(), world, lambda: world.now)
    made._publisher = made._reader = world
    made._gained([("a", 0)])
    worker: Worker = made
    return worker


@settings(deadline=None)
@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=6))
def test_under_load_a_transaction_lasts_as_long_as_the_last_commit_took(
    commits_s: list[float],
) -> None:
    world = World([*commits_s, 0], records=10_000)
    worker = worker_in(world)
    for _ in range(len(commits_s) + 1):
        worker._transact([RECORD])
    for took_s, lasted_s in zip([0.0, *commits_s], world.lasted_s, strict=True):
        expected_s = min(max(took_s, SHORTEST_S), LONGEST_S)
        assert expected_s - 1e-9 <= lasted_s <= expected_s + 2 * STEP_S


class Slow(World):
    """A world whose commits wait until they are let go, and note what was handled meanwhile."""

    def __init__(self, records: int) -> None:
        super().__init__([0.0] * 10, records, at_once=AT_ONCE)
        self.let_go, self.noted = threading.Event(), list[str]()
        self.fails = False

    @override
    def begin(self) -> None:
        super().begin()
        self.noted.append("begin")

    @override
    def write(self, outputs: Sequence[Output]) -> None:
        self.noted.append("write")

    @override
    def commit(self, offsets: Mapping[Partition, int], reader: object, timeout_s: float) -> None:
        assert self.let_go.wait(120)
        if self.fails:
            raise Retry("the broker is gone")
        super().commit(offsets, reader, timeout_s)
        self.noted.append("commit")


def test_what_waits_is_handled_while_a_commit_is_on_its_way_and_written_after_it() -> None:
    world = Slow(10_000_000)
    worker = worker_in(world)

    class Noting(Stateless):
        def handle(self, _: Sequence[Record]) -> Iterable[Output]:
            world.noted.append("handle")
            return ()

        @override
        def changes(self) -> Iterable[Row]:
            world.noted.append("changes")
            return ()

    worker._tasks[0] = Noting()
    worker._plan = msgspec.structs.replace(worker._plan, changelog="c")
    worker._transact([RECORD])
    before, wait = len(world.noted), worker._await_commit

    def waiting() -> None:
        world.let_go.set()
        wait()

    worker._await_commit = waiting  # type: ignore[method-assign]  # not before it must wait
    worker._transact([RECORD])
    worker._await_commit()
    assert "commit" not in world.noted[:before], "it did not wait"
    meanwhile, after = _parted(world.noted[before:], "commit")
    assert len(meanwhile) > 1
    assert set(meanwhile) == {"handle"}
    assert after[: 1 + len(meanwhile)] == ["begin", *["write"] * len(meanwhile)]
    # Nothing of the next transaction is in the one before.
    turns = [told for told in world.noted if told in {"begin", "changes", "commit"}]
    assert turns == ["begin", "changes", "commit"] * 2


def _parted(told: list[str], by: str) -> tuple[list[str], list[str]]:
    at = told.index(by)
    return told[:at], told[at + 1 :]


def test_a_commit_that_fails_behind_the_next_records_ends_the_life() -> None:
    world = Slow(10_000_000)
    world.fails = True
    world.let_go.set()
    worker = worker_in(world)
    worker._transact([RECORD])
    with pytest.raises(Retry, match="gone"):
        worker._transact([RECORD])
    assert world.noted.count("begin") == 1, "nothing is begun behind a commit that failed"


def test_partitions_are_given_up_when_the_commit_on_its_way_has_come_back() -> None:
    world = Slow(10_000_000)
    worker = worker_in(world)
    worker._transact([RECORD])
    threading.Timer(0.05, world.let_go.set).start()
    worker._revoked([("a", 0)])
    assert world.noted[-1] == "commit"
    assert worker.began is None


@pytest.mark.parametrize("commit_s", [0.001, 0.05, 0.3])
@pytest.mark.parametrize(("at_once", "record"), [(AT_ONCE, RECORD), (4, LARGE)])
def test_where_a_log_waits_a_transaction_lasts_as_long_as_it_may(
    commit_s: float, at_once: int, record: Record
) -> None:
    world = World([commit_s, 0], records=10_000_000, at_once=at_once, record=record)
    worker = worker_in(world)
    for _ in range(2):
        worker._transact([RECORD])
    worker._await_commit()
    assert len(world.lasted_s) == 2
    for lasted_s in world.lasted_s:
        assert LONGEST_S - 1e-9 <= lasted_s <= LONGEST_S + 2 * STEP_S


@settings(deadline=None)
@given(st.floats(0, 0.5))
def test_a_light_load_never_waits_for_a_slow_commit_of_before(commit_s: float) -> None:
    world = World([commit_s, 0], records=0)
    worker = worker_in(world)
    worker._transact([RECORD])
    worker._transact([RECORD])
    assert world.lasted_s[1] <= 2 * STEP_S


@settings(deadline=None)
@given(st.lists(st.integers(0, 2 * PART_BYTES // 3), max_size=40))
def test_parts_are_all_records_in_their_order_and_small(sizes: list[int]) -> None:
    whole = bytes(PART_BYTES)
    records = [Record("a", 0, i, 0, None, whole[:size] or None) for i, size in enumerate(sizes)]
    cut = list(parts(records))
    assert [record for part in cut for record in part] == records
    assert all(len(p) == 1 or sum(len(r.value or b"") for r in p) <= PART_BYTES for p in cut)
    if sum(sizes) <= PART_BYTES:
        assert len(cut) == (1 if records else 0)


class Hard(Stateless):
    """Takes its time for every record."""

    def __init__(self, world: World, record_s: float) -> None:
        self._world, self._record_s = world, record_s

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        self._world.now += self._record_s * len(records)
        return ()


class Immediate(ThreadPoolExecutor):
    """Has done what it is asked before it answers."""

    @override
    def submit(self, *told: Any, **named: Any) -> Future[Any]:
        done = super().submit(*told, **named)
        wait([done])
        return done


def numbered(many: int, size: int) -> list[Record]:
    return [Record("a", 0, i, 0, None, bytes(size)) for i in range(many)]


@settings(deadline=None)
@given(st.floats(0.001, 0.3), st.integers(1, 40))
def test_a_transaction_lasts_no_longer_than_it_may_whatever_one_reading_brought(
    record_s: float, records: int
) -> None:
    world = World([0.0] * 100, records=0)
    worker = worker_in(world)
    worker._tasks[0], worker._committer = Hard(world, record_s), Immediate()
    left, ends = numbered(records, MANY_BYTES), list[int]()
    while left:
        began = world.now
        left = worker._transact(left)
        worker._await_commit()
        assert world.now - began <= LONGEST_S + 2 * record_s + 2 * STEP_S  # a part holds two
        ends.append(records - len(left))
    assert len(world.lasted_s) == len(ends)
    assert ends == sorted(set(ends))
    assert ends[-1] == records


def test_what_is_left_of_a_reading_is_told_before_more_is_read() -> None:
    told, read, stopping = list[int](), list[int](), threading.Event()

    class Given(World):
        def open(self, _: float) -> None: ...

        def join(self, **_: object) -> None: ...

        def close(self) -> None: ...

        def lag(self) -> dict[Partition, int]:
            return {}

        @override
        def read(self, _: float) -> list[Record]:
            read.append(len(told))
            if len(read) > 1:
                stopping.set()
                return []
            return numbered(3, PART_BYTES)

        @override
        def commit(self, offsets: Mapping[Partition, int], *_: object) -> None:
            told.append(offsets["a", 0])

    world = Given([], records=0)
    worker = worker_in(world)
    worker._tasks[0], worker._committer = Hard(world, LONGEST_S), Immediate()
    worker.run(stopping)
    assert told == [1, 2, 3]
    assert read == [0, 3]


def test_a_reading_is_handled_on_while_a_slow_commit_is_on_its_way() -> None:
    world = Slow(0)
    worker = worker_in(world)
    worker._tasks[0] = Hard(world, LONGEST_S)
    left = worker._transact(numbered(5, PART_BYTES))
    assert len(left) == 4
    threading.Timer(0.05, world.let_go.set).start()
    assert not worker._transact(left)
    worker._await_commit()
    assert world.noted.count("begin") == 2, "none of the others waits for a commit of its own"


def test_only_what_nobody_waits_for_is_gathered() -> None:
    assert "fetch.min.bytes" not in gathering(0)
    assert gathering(0.2)["fetch.min.bytes"] == 1 << 20
    assert gathering(0.2)["fetch.wait.max.ms"] == 200
