"""What a worker owes the log, in which order, whatever happens in between."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import CommandError, ExitCode, Retry
from services.monitoring.desk import (
    FULL_RECORDS,
    MARK_BYTES,
    Desk,
    StateRow,
    join,
    newer,
    split,
    standing,
)
from services.monitoring.transport import (
    PROVED,
    RUN_RECORDS,
    CommittedConsumer,
    check_pins,
    runs,
)
from services.runtime.ports import Output, Record, Row

TOPIC = "predictions.v1"
TOTAL = 30


class Counting:
    """Counts its records, with the offset through which it has counted; tells each count."""

    def __init__(self, partition: int) -> None:
        self.partition, self.mark, self.count, self.changed = partition, -1, 0, False

    def load(self, key: bytes, value: bytes | None) -> None:
        assert key == b"count"
        mark, count = (value or b"").split()
        self.mark, self.count = int(mark), int(count)

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        for record in records:
            if record.offset > self.mark:
                self.mark, self.count, self.changed = record.offset, self.count + 1, True
            yield Output("out", b"%d" % self.partition, b"%d" % self.count)

    def changes(self) -> Iterable[Row]:
        if self.changed:
            self.changed = False
            yield b"count", b"%d %d" % (self.mark, self.count)


class Log:
    """A cluster in memory; it dies before the write whose number it is given."""

    def __init__(self, dies_at: int = -1) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.said: list[str] = []
        self.outputs: dict[bytes | None, bytes | None] = {}
        self.dies_at = dies_at

    def _write(self) -> None:
        if self.dies_at == 0:
            raise Retry("the cluster went away")
        self.dies_at -= 1

    async def publish(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            await asyncio.sleep(0)
            self._write()
            self.outputs[output.key] = output.value
            self.said.append("output")

    async def keep(self, rows: Sequence[StateRow]) -> None:
        for row in rows:
            await asyncio.sleep(0)
            self._write()
            assert row.value is not None
            self.rows[row.key] = row.value
            self.said.append("row")


class Silent:
    def handled(self, records: Sequence[Record], outputs: Sequence[Output]) -> None: ...

    def committed(self, seconds: float) -> None: ...


def desk_on(log: Log) -> Desk:
    return Desk({TOPIC: Counting}, log, meter=Silent(), clock=lambda: 0.0)


def record(offset: int, partition: int = 0) -> Record:
    return Record(TOPIC, partition, offset, 0, b"k", b"v")


def test_outputs_come_before_rows_and_rows_before_acknowledgements() -> None:
    async def run() -> list[str]:
        log = Log()
        desk = desk_on(log)
        desk.open([(TOPIC, 0)], [])
        for offset in range(3):
            desk.take([record(offset)], lambda: log.said.append("acknowledged"))
        await desk.settle()
        return log.said

    assert asyncio.run(run()) == ["output"] * 3 + ["row"] + ["acknowledged"] * 3


def test_publishing_acknowledges_nothing() -> None:
    async def run() -> list[str]:
        log = Log()
        desk = desk_on(log)
        desk.open([(TOPIC, 0)], [])
        desk.take([record(0)], lambda: log.said.append("acknowledged"))
        await desk.publish()
        return log.said

    assert asyncio.run(run()) == ["output"]


async def life(log: Log, committed: dict[int, int], ends: Sequence[int]) -> None:
    """Feed what is not committed of two partitions of 30 records; flush at `ends`, and last."""
    desk = desk_on(log)
    desk.open([(TOPIC, 0), (TOPIC, 1)], list(log.rows.items()))
    acknowledged: list[tuple[int, int]] = []
    first = dict(committed)
    for offset in range(TOTAL):
        for partition in (0, 1):
            if offset >= first[partition]:
                place = (partition, offset + 1)
                desk.take([record(offset, partition)], partial(acknowledged.append, place))
        if offset in ends:
            await desk.settle()
            committed.update(acknowledged)
    await desk.settle()
    committed.update(acknowledged)


@given(
    ends=st.lists(st.integers(0, 29), max_size=6),
    deaths=st.lists(st.integers(0, 70), max_size=4),
)
def test_a_death_before_any_write_changes_no_number(ends: list[int], deaths: list[int]) -> None:
    log, committed = Log(), {0: 0, 1: 0}
    for log.dies_at in deaths:
        with suppress(Retry):
            asyncio.run(life(log, committed, ends))
    log.dies_at = -1
    asyncio.run(life(log, committed, ends))

    assert committed == {0: TOTAL, 1: TOTAL}
    assert {key: value[MARK_BYTES:] for key, value in log.rows.items()} == {
        join((TOPIC, p), b"count"): b"%d %d" % (TOTAL - 1, TOTAL) for p in (0, 1)
    }
    assert log.outputs == {b"0": b"%d" % TOTAL, b"1": b"%d" % TOTAL}


def test_a_flush_that_partitions_moved_under_writes_no_row_and_acknowledges_nothing() -> None:
    async def run() -> list[str]:
        log = Log()
        desk = desk_on(log)
        desk.open([(TOPIC, 0)], [])
        desk.take([record(0)], lambda: log.said.append("acknowledged"))
        flush = asyncio.create_task(desk.settle())
        await asyncio.sleep(0)  # the flush has begun to write its outputs
        desk.open([(TOPIC, 1)], [])
        await flush
        return log.said

    assert asyncio.run(run()) == ["output"]


def test_what_was_taken_before_partitions_moved_is_never_written() -> None:
    async def run() -> list[str]:
        log = Log()
        desk = desk_on(log)
        desk.open([(TOPIC, 0)], [])
        desk.take([record(0)], lambda: log.said.append("acknowledged"))
        desk.close()
        await desk.publish()
        await desk.settle()
        return log.said

    assert asyncio.run(run()) == []


def test_records_of_partitions_that_are_not_held_are_left_alone() -> None:
    async def run() -> Log:
        log = Log()
        desk = desk_on(log)
        desk.open([(TOPIC, 0)], [(join((TOPIC, 1), b"count"), bytes(MARK_BYTES) + b"5 6")])
        desk.take([record(0, partition=1)], lambda: log.said.append("acknowledged"))
        await desk.settle()
        return log

    assert asyncio.run(run()).said == []


def test_of_a_run_that_comes_again_with_more_only_what_is_new_is_handled() -> None:
    async def run() -> Log:
        log = Log()
        desk = desk_on(log)
        desk.open([(TOPIC, 0)], [])
        for first, last in ((0, 3), (1, 6), (2, 5)):
            acknowledged = f"acknowledged through {last}"
            desk.take(
                [record(n) for n in range(first, last)], partial(log.said.append, acknowledged)
            )
        await desk.settle()
        return log

    log = asyncio.run(run())
    assert log.outputs == {b"0": b"6"}
    assert log.said[-2:] == ["acknowledged through 3", "acknowledged through 6"]


@given(st.integers(0, 5 * RUN_RECORDS))
def test_runs_hold_every_record_in_order_and_none_is_long(many: int) -> None:
    found = runs(range(many))
    assert [each for run in found for each in run] == list(range(many))
    assert all(0 < len(run) <= RUN_RECORDS for run in found)


def test_a_desk_is_full_before_memory_is() -> None:
    async def run() -> tuple[bool, bool]:
        desk = desk_on(Log())
        desk.open([(TOPIC, 0)], [])
        for offset in range(FULL_RECORDS - 1):
            desk.take([record(offset)], bool)
        before = desk.full
        desk.take([record(FULL_RECORDS)], bool)
        return before, desk.full

    assert asyncio.run(run()) == (False, True)


@given(st.from_regex(r"[a-z.0-9]{1,20}", fullmatch=True), st.integers(0, 999), st.binary())
def test_names_of_rows_can_be_taken_apart_again(topic: str, partition: int, key: bytes) -> None:
    assert split(join((topic, partition), key)) == ((topic, partition), key)


@given(st.integers(0, 1 << 62), st.integers(0, 1 << 62), st.binary(), st.binary())
def test_of_two_rows_the_one_counted_further_stays(a: int, b: int, x: bytes, y: bytes) -> None:
    stored, value = a.to_bytes(MARK_BYTES, "big") + x, b.to_bytes(MARK_BYTES, "big") + y
    assert newer(stored, value) == (b >= a)
    assert standing([(b"k", stored), (b"k", value)]) == {b"k": value if b >= a else stored}
    assert standing([(b"k", stored), (b"k", None)]) == {}


def test_the_installed_libraries_are_those_the_transport_was_proved_on() -> None:
    check_pins()
    assert {name for _, name in PROVED} >= {"_create_worker_consumer", "_add_gap", "getmany"}


def test_another_source_than_the_proved_one_is_refused_with_a_remedy() -> None:
    with pytest.raises(CommandError) as refused:
        check_pins({(CommittedConsumer, "ack"): "0" * 16})
    assert refused.value.exit_code is ExitCode.CONFIGURATION
    assert "faust-streaming==0.15.3" in refused.value.remedy
