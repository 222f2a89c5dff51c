"""What is accepted while Kafka is away: on disk, sealed, in order, and given back once."""

import asyncio
import os
import stat
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import Retry, Stop
from services.gateway.depot import Depot
from services.gateway.journal import FRAME, Journal
from services.gateway.outbox import Outbox
from services.runtime.kafka.publisher import Delivered
from services.runtime.ports import Output
from services.runtime.vault import Vault

SECRET = b"Mxyzptlk"


def vault() -> Vault:
    return Vault([b"k" * 32])


def everything(journal: Journal, start: int = 0, most_bytes: int = 100) -> list[bytes]:
    found: list[bytes] = []
    at = max(start, journal.first)
    while part := journal.read(at, most_bytes=most_bytes):
        found += part
        at += len(part)
    assert at == journal.next
    return found


@settings(max_examples=30, deadline=None)  # a disk takes its time
@given(
    batches=st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=5), max_size=8),
    segment_bytes=st.integers(1, 300),
    most_bytes=st.integers(1, 300),
    data=st.data(),
)
def test_what_was_appended_comes_back_in_order_after_any_restart_and_forgetting(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[bytes]],
    segment_bytes: int,
    most_bytes: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal, said, gone = Journal(folder, vault, segment_bytes=segment_bytes), list[bytes](), 0
    for batch in batches:
        journal.append(batch)
        said += batch
        if data.draw(st.booleans(), "forget"):
            gone = data.draw(st.integers(gone, len(said)), "through")
            journal.forget(gone)
        if data.draw(st.booleans(), "restart"):
            first, left = journal.first, journal.next - journal.first
            journal.close()
            journal = Journal(folder, vault, segment_bytes=segment_bytes)
            if not left:  # a journal without a record begins anew
                said, gone = [], 0
            else:
                assert journal.first == first
    assert journal.first <= gone
    assert everything(journal, gone, most_bytes) == said[gone:]
    journal.forget(len(said))
    assert journal.size == 0
    journal.close()


@pytest.mark.parametrize("cut", [1, FRAME.size, FRAME.size + 5])
def test_the_unfinished_end_of_a_life_is_cut_off_and_nothing_before_it(
    tmp_path: Path, cut: int
) -> None:
    journal = Journal(tmp_path, vault)
    journal.append([b"one", b"two"])
    whole = journal.size
    journal.append([b"three"])
    journal.close()
    (path,) = tmp_path.glob("*.log")
    os.truncate(path, whole + cut)
    again = Journal(tmp_path, vault)
    assert everything(again) == [b"one", b"two"]
    again.append([b"four"])
    assert everything(again) == [b"one", b"two", b"four"]
    again.close()


def test_damage_before_the_end_stops_the_gateway(tmp_path: Path) -> None:
    journal = Journal(tmp_path, vault, segment_bytes=1)
    for body in (b"one", b"two", b"three"):
        journal.append([body])
    journal.close()
    first, second, _ = sorted(tmp_path.glob("*.log"))
    kept = first.read_bytes()
    first.write_bytes(kept[:-1])
    with pytest.raises(Stop, match="damaged"):
        Journal(tmp_path, vault)
    first.write_bytes(kept)
    second.unlink()
    with pytest.raises(Stop, match="damaged"):
        Journal(tmp_path, vault)


def test_the_disk_holds_nothing_in_clear_and_nobody_else_may_look(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    journal = Journal(folder, vault)
    journal.append([SECRET * 3])
    journal.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert SECRET not in path.read_bytes()


def test_a_frame_that_was_moved_does_not_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path, vault)
    journal.append([b"a", b"b"])
    (path,) = tmp_path.glob("*.log")
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[half:] + data[:half])
    with pytest.raises(Exception, match="sealed"):
        journal.read(0, most_bytes=1000)
    journal.close()


def test_two_processes_cannot_have_one_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path, vault)
    with pytest.raises(BlockingIOError):
        Journal(tmp_path, vault)
    journal.close()
    Journal(tmp_path, vault).close()


class Kafka:
    """A log in memory that can be away, and a shipper that can fail before or after it wrote."""

    def __init__(self) -> None:
        self.broken = False
        self.away = True
        self.log: list[bytes] = []
        self.through = 0
        self.lose_answers = 0
        self.fail = 0
        self.lives = 0

    def send(self, output: Output, delivered: Delivered) -> None:
        if self.away:
            raise Retry("Kafka: away")
        self.log.append(output.value or b"")
        self._reports = [*getattr(self, "_reports", []), delivered]

    def poll(self, timeout_s: float) -> int:
        assert timeout_s == 0
        reports, self._reports = self._reports, []
        for delivered in reports:
            delivered(not self.away)
        return len(reports)

    def flush(self, timeout_s: float) -> int:
        return int(timeout_s * 0)

    def reach(self, topic: str, timeout_s: float) -> None:
        assert topic
        assert timeout_s
        if self.away:
            raise Retry("Kafka: no answer")

    def open(self) -> int:
        self.lives += 1
        return self.through

    def ship(self, outputs: Sequence[Output], through: int) -> None:
        if self.fail:
            self.fail -= 1
            raise Retry("Kafka: failed before")
        self.log += [output.value or b"" for output in outputs]
        self.through = through
        if self.lose_answers:
            self.lose_answers -= 1
            raise Retry("Kafka: failed after")

    def close(self) -> None:
        """Nothing to leave."""


def record(body: bytes) -> Output:
    return Output("fhir.raw.v1", b"key", body, headers=(("source", b"west"),))


def depot_of(kafka: Kafka, folder: Path, most_bytes: int = 1 << 20) -> Depot:
    outbox = Outbox(kafka, "fhir.raw.v1", lambda: 0.0)
    return Depot(outbox, Journal(folder, vault), lambda _: kafka, most_bytes=most_bytes)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await scene()

    asyncio.run(limited())


async def until(what: Callable[[], bool]) -> None:
    while not what():  # noqa: ASYNC110 - another thread tells
        await asyncio.sleep(0.005)


def test_what_came_while_kafka_was_away_is_there_once_and_before_what_came_later(
    tmp_path: Path,
) -> None:
    kafka = Kafka()
    names = [b"%d" % n for n in range(200)]

    async def scene() -> None:
        depot = depot_of(kafka, tmp_path)
        await asyncio.gather(*(depot.deliver(record(name)) for name in names[:100]))
        assert (depot.kept, kafka.log) == (100, [])
        kafka.fail, kafka.lose_answers = 1, 1
        draining = asyncio.create_task(depot.drain())
        kafka.away = False
        for name in names[100:]:
            await depot.deliver(record(name))
        await until(lambda: not depot.kept)
        assert kafka.log == names
        await until(lambda: depot.straight)
        await depot.deliver(record(b"last"))
        assert kafka.log == [*names, b"last"]
        draining.cancel()
        await depot.close()

    play(scene)
    assert kafka.lives == 3


def test_a_life_that_ended_anywhere_leaves_each_record_to_the_next_once(tmp_path: Path) -> None:
    kafka = Kafka()

    async def first() -> None:
        depot = depot_of(kafka, tmp_path)
        await asyncio.gather(*(depot.deliver(record(b"%d" % n)) for n in range(10)))
        await depot.close()

    async def second() -> None:
        depot = depot_of(kafka, tmp_path)
        assert depot.kept == 10
        draining = asyncio.create_task(depot.drain())
        await until(lambda: kafka.lives > 1)
        draining.cancel()
        await depot.close()

    play(first)
    # The transaction was written, but this life never learned of it.
    kafka.away, kafka.lose_answers = False, 1
    play(second)
    assert kafka.log == [b"%d" % n for n in range(10)]


def test_a_full_outbox_turns_away_and_loses_nothing_that_it_took(tmp_path: Path) -> None:
    kafka = Kafka()

    async def scene() -> None:
        depot = depot_of(kafka, tmp_path, most_bytes=3000)
        assert depot.ready() == (True, "")
        taken = 0
        while depot.kept_bytes < 2000:
            await depot.deliver(record(b"x" * 500))
            taken += 1
        with pytest.raises(Retry, match="full"):
            await depot.deliver(record(b"x" * 1000))
        assert taken >= 3
        assert depot.kept_bytes <= 3000
        kafka.away = False
        draining = asyncio.create_task(depot.drain())
        await until(lambda: depot.straight)
        assert len(kafka.log) == taken
        await depot.deliver(record(b"again"))
        draining.cancel()
        await depot.close()

    play(scene)


def test_a_disk_that_fails_turns_away_and_the_next_message_is_kept(tmp_path: Path) -> None:
    kafka = Kafka()

    async def scene() -> None:
        depot = depot_of(kafka, tmp_path)
        await depot.deliver(record(b"one"))
        file = depot._journal._file
        assert file is not None
        null = os.open("/dev/full", os.O_WRONLY)
        os.dup2(null, file)
        os.close(null)
        with pytest.raises(Retry, match="cannot be written"):
            await depot.deliver(record(b"lost"))
        await depot.deliver(record(b"two"))
        kafka.away = False
        draining = asyncio.create_task(depot.drain())
        await until(lambda: depot.straight)
        assert kafka.log == [b"one", b"two"]
        draining.cancel()
        await depot.close()

    play(scene)


def test_whatever_goes_wrong_on_the_disk_every_sender_gets_an_answer(tmp_path: Path) -> None:
    async def scene() -> None:
        depot = depot_of(Kafka(), tmp_path)

        def fail(plain: Sequence[bytes]) -> None:
            raise ValueError(plain)

        depot._journal.append = fail  # type: ignore[method-assign]  # it never raises this
        with pytest.raises(Retry, match="ValueError"):
            await depot.deliver(record(SECRET))
        await depot.close()

    play(scene)


def test_senders_share_one_write(tmp_path: Path) -> None:
    writes: list[int] = []

    async def scene() -> None:
        depot = depot_of(Kafka(), tmp_path)
        append = depot._journal.append
        depot._journal.append = lambda plain: (writes.append(len(plain)), append(plain))[1]  # type: ignore[method-assign, func-returns-value]  # counts on the way
        await asyncio.gather(*(depot.deliver(record(b"%d" % n)) for n in range(50)))
        await depot.close()

    play(scene)
    assert sum(writes) == 50
    assert len(writes) <= 2


def test_a_folder_that_is_older_than_kafkas_knowledge_stops_the_gateway(tmp_path: Path) -> None:
    kafka = Kafka()

    async def scene() -> None:
        depot = depot_of(kafka, tmp_path)
        await depot.deliver(record(b"one"))
        kafka.away, kafka.through = False, 5
        with pytest.raises(Stop):
            await depot.drain()
        await depot.close()

    play(scene)


class Senders:
    """Some that send one record after the other and never pause."""

    def __init__(self, depot: Depot, many: int) -> None:
        self.told = [0] * many
        self.refused = 0
        self._depot = depot
        self._tasks = [asyncio.create_task(self._send(n)) for n in range(many)]

    async def _send(self, number: int) -> None:
        while True:
            try:
                await self._depot.deliver(record(b"%d %d" % (number, self.told[number])))
            except Retry:
                self.refused += 1
                await asyncio.sleep(0)
            else:
                self.told[number] += 1

    async def more(self, each: int = 20) -> None:
        """Return when every one of them was answered so many times more."""
        goals = [told + each for told in self.told]
        await until(lambda: all(a >= b for a, b in zip(self.told, goals, strict=True)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def in_order(self, log: list[bytes]) -> bool:
        """Whether each one's records are there once, in order; the last may be in doubt."""
        rows = [[int(n) for of, n in map(bytes.split, log) if int(of) == s] for s in range(8)]
        return all(
            row[:told] == list(range(told)) and len(row) <= told + 1
            for row, told in zip(rows, self.told, strict=True)
        )


@pytest.mark.parametrize("fails", [0, 1, 3])
def test_senders_that_never_pause_go_straight_again_each_in_its_order(
    tmp_path: Path, fails: int
) -> None:
    kafka = Kafka()

    async def scene() -> None:
        depot = depot_of(kafka, tmp_path, 1 << 30)
        senders = Senders(depot, 8)
        await senders.more()
        kafka.fail, kafka.lose_answers = fails // 2, fails - fails // 2
        draining = asyncio.create_task(depot.drain())
        kafka.away = False
        await until(lambda: depot.straight)
        await senders.more()
        assert depot.straight
        await senders.stop()
        assert depot.kept == senders.refused == 0
        draining.cancel()
        await depot.close()
        assert senders.in_order(kafka.log)

    play(scene)


def test_a_kafka_that_hangs_as_the_last_are_written_holds_senders_up_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka, hanging = Kafka(), threading.Event()
    monkeypatch.setattr("services.gateway.depot.TURN_S", 0.01)
    ship = kafka.ship

    def hung(outputs: Sequence[Output], through: int) -> None:
        hanging.wait(120)
        ship(outputs, through)

    monkeypatch.setattr(kafka, "ship", hung)

    async def scene() -> None:
        depot = depot_of(kafka, tmp_path, 1 << 30)
        senders = Senders(depot, 8)
        await senders.more()
        draining = asyncio.create_task(depot.drain())
        kafka.away = False
        await until(lambda: kafka.lives == 1)
        await senders.more()
        await senders.more()
        assert not depot.straight
        hanging.set()
        monkeypatch.setattr("services.gateway.depot.TURN_AGAIN_S", 0.0)
        await senders.stop()
        await until(lambda: depot.straight)
        draining.cancel()
        await depot.close()
        assert senders.in_order(kafka.log)

    play(scene)
