"""The loop of every exactly-once service: poll, drain, handle, one Kafka transaction.

A transaction holds the outputs, the changed rows of the state and the consumed offsets. The loop
is crash-only: whatever is raised ends the process, the supervisor starts the next life, and its
`init_transactions` aborts what was open. Retrying in place hangs for good after a broker outage.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from operator import attrgetter
from typing import Final, Protocol

import msgspec

from services.core.errors import ExitCode, Retry
from services.runtime.kafka.client import Options
from services.runtime.kafka.group import AT_ONCE, GroupReader, Partition
from services.runtime.kafka.publisher import TransactionalPublisher
from services.runtime.ports import Output, Record, Task
from services.runtime.tables import restore

POLL_S: Final = 0.1
IDLE_COMMIT_S: Final = 0.005
SHORTEST_S: Final = 0.010
LONGEST_S: Final = 0.100
PART_BYTES: Final = 1 << 20
"""So much is handled before the clock is looked at: a Bundle of 1 MiB holds 1,500 entries."""
MANY_BYTES: Final = PART_BYTES // 2
"""Of one reading: as many wait as where AT_ONCE records of one Observation do."""
COMMIT_TIMEOUT_S: Final = 5.0
OPEN_TIMEOUT_S: Final = 10.0
REPORT_S: Final = 1.0
WATCHDOG_S: Final = 15.0
WATCHDOG_STEP_S: Final = 0.5

PLACE: Final = attrgetter("topic", "partition")

MakeTask = Callable[[int], Task]
Clock = Callable[[], float]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which topics a service joins to which changelog, and under which name.

    Args:
        service: name of the group and, with the instance, of the transactions.
        instance: ordinal.
        inputs: topics that are read.
        changelog: topic of the state; None without one.
        gather_s: how long records may wait for company; 0 where a clinician waits for the result.
        at_once: so many records one reading brings, at most.
        transaction_timeout_ms: after which the broker gives up a transaction of a dead instance.
    """

    service: str
    instance: int
    inputs: tuple[str, ...]
    changelog: str | None = None
    gather_s: float = 0
    at_once: int = AT_ONCE
    transaction_timeout_ms: int = 5000


class Meter(Protocol):
    """What the loop tells about itself; must not raise and not block."""

    def handled(self, records: Sequence[Record], outputs: Sequence[Output]) -> None:
        """A batch went through the task; nothing is committed yet."""

    def committed(self, seconds: float) -> None:
        """A transaction was committed, so long after it began."""

    def assigned(self, partitions: Sequence[Partition], rows: int) -> None:
        """Partitions are held now and were restored from so many rows."""

    def behind(self, lag: dict[Partition, int]) -> None:
        """So many offsets lie before the position of each partition."""


class Worker:
    """Runs one instance of a service until it is told to stop."""

    def __init__(
        self, plan: Plan, options: Options, make_task: MakeTask, meter: Meter, clock: Clock
    ) -> None:
        """Make the clients; nothing is read yet.

        Args:
            plan: what is read and written.
            options: of the cluster.
            make_task: makes an empty task for a partition number.
            meter: hears about progress.
            clock: monotonic seconds; decides when to commit and nothing else.
        """
        name = f"{plan.service}-{plan.instance}"
        self._plan, self._options = plan, options
        self._make_task, self._meter, self._clock = make_task, meter, clock
        self._publisher = TransactionalPublisher(
            options, transactional_id=name, timeout_ms=plan.transaction_timeout_ms
        )
        self._reader = GroupReader(
            options,
            group=plan.service,
            instance=name,
            topics=list(plan.inputs),
            gather_s=plan.gather_s,
            at_once=plan.at_once,
        )
        self._tasks: dict[int, Task] = {}
        self._held: set[Partition] = set()
        self._offsets: dict[Partition, int] = {}
        self.began: float | None = None
        """When the open transaction began; None while there is none."""
        self._commit_s = 0.0
        self._committer = ThreadPoolExecutor(1, "commit")
        self._committing: Future[None] | None = None
        self._unwritten: list[tuple[list[Record], list[Output]]] = []
        self._dead = False

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set; then commit, leave the group and return.

        Raises:
            Retry: a door is shut. Call `die` and end the process.
            Stop: from a task. The same.
        """
        self._publisher.open(OPEN_TIMEOUT_S)
        self._reader.join(gained=self._gained, revoked=self._revoked, lost=self._lost)
        report_at = self._clock()
        left: list[Record] = []
        while not stopping.is_set():
            records = left or self._reader.read(0 if self._committing else POLL_S)
            if records:
                left = self._transact(records)
            else:
                self._await_commit()
            if self._clock() >= report_at:
                self._meter.behind(self._reader.lag())
                report_at = self._clock() + REPORT_S
        self._reader.close()
        self._await_commit()

    def die(self) -> None:
        """Leave the group without a word about offsets, so that others need not wait for it."""
        self._dead = True
        self._reader.close()

    def _transact(self, records: list[Record]) -> list[Record]:
        """Handle records and what arrives close behind them, commit, and give what is left.

        A light load commits when the queue was empty for IDLE_COMMIT_S. A heavy one takes in what
        arrives for as long as the last commit took: where commits are slow, fewer of them leave
        more time for the work between. Where many wait (`many`) nobody can be told soon:
        a transaction is as long as it may be, so that all are told the sooner, and the next
        records are handled while it is committed, as many as come. What it does not come to of a
        reading is left for the next one: a reading can hold half a second of Bundles, and who
        waits for the first of them need not wait for the last.
        """
        began, many_wait = self._clock(), False
        latest = began + min(max(SHORTEST_S, self._commit_s), LONGEST_S)
        while records:
            if many(records):
                latest, many_wait = began + LONGEST_S, True
            records = self._handle_until(latest, records)
            if records:
                break
            rest_s = min(IDLE_COMMIT_S, latest - self._clock())
            records = self._reader.read(rest_s) if rest_s > 0 else []
        self._commit(behind=many_wait)
        return records

    def _handle_until(self, latest: float, records: list[Record]) -> list[Record]:
        """Handle records by parts until it is time to commit, and give what is left."""
        for part in parts(records):
            self._handle(part)
            records = records[len(part) :]
            if self._clock() >= latest and self._may_write():
                break
        return records

    def _handle(self, records: list[Record]) -> None:
        shares: dict[int, list[Record]] = {}
        for place, some in groupby(records, PLACE):
            # What was read in the breath in which its partition was given up is the next owner's.
            if place in self._held:
                share = shares.setdefault(place[1], [])
                share += some
                self._offsets[place] = share[-1].offset + 1
        for partition, share in shares.items():
            self._unwritten.append((share, list(self._tasks[partition].handle(share))))
            if self._may_write():
                self._write()

    def _may_write(self) -> bool:
        """Whether no commit is on its way for which a next transaction has to wait."""
        return self._committing is None or self._committing.done()

    def _write(self) -> None:
        """Write what was handled, once the commit before it has come back."""
        self._await_commit()
        for share, outputs in self._unwritten:
            if self.began is None:
                self._publisher.begin()
                self.began = self._clock()
            self._publisher.write(outputs)
            self._meter.handled(share, outputs)
        self._unwritten.clear()

    def _commit(self, *, behind: bool = False) -> None:
        """Write what was handled and commit it, behind the next records if wanted."""
        self._write()
        if self.began is None:
            return
        committing, offsets, self._offsets = self._clock(), self._offsets, {}
        # Asked here and now: what is handled meanwhile belongs to the next transaction.
        self._publisher.write(self._changed_rows())

        def commit() -> None:
            self._publisher.commit(offsets, self._reader, COMMIT_TIMEOUT_S)
            self._commit_s = self._clock() - committing

        self._committing = self._committer.submit(commit)
        if not behind:
            self._await_commit()

    def _await_commit(self) -> None:
        """Wait for the commit that is on its way, if one is; raises what it raised."""
        if self._committing is None or self.began is None:
            return
        self._committing.result()
        self._meter.committed(self._clock() - self.began)
        self._committing, self.began = None, None

    def _changed_rows(self) -> list[Output]:
        if self._plan.changelog is None:
            return []
        return [
            Output(self._plan.changelog, key, value, partition)
            for partition, task in self._tasks.items()
            for key, value in task.changes()
        ]

    def _gained(self, partitions: Sequence[Partition]) -> None:
        # One task serves a partition number of every input topic: a topic that comes later must
        # not replace a living one, nor may one that goes first end it.
        self._held.update(partitions)
        numbers = {number for _, number in partitions} - self._tasks.keys()
        fresh = {number: self._make_task(number) for number in sorted(numbers)}
        changelog = self._plan.changelog
        rows = restore(self._options, changelog, fresh) if changelog and fresh else 0
        self._tasks.update(fresh)
        self._meter.assigned(partitions, rows)

    def _revoked(self, partitions: Sequence[Partition]) -> None:
        # Never abort and go on: the state in memory would be ahead of the log.
        if self._dead:
            return
        self._commit()
        self._forget(partitions)

    def _lost(self, _: Sequence[Partition]) -> None:
        # Others may have committed for these partitions already; this life is over.
        if not self._dead:
            raise Retry("the group gave our partitions to another instance")

    def _forget(self, partitions: Sequence[Partition]) -> None:
        self._held.difference_update(partitions)
        for number in self._tasks.keys() - {number for _, number in self._held}:
            del self._tasks[number]


def many(records: Sequence[Record]) -> bool:
    """Say of one reading whether a log waits behind it, by the number of records or their size."""
    if len(records) >= AT_ONCE:
        return True
    return sum([len(record.value or b"") for record in records]) >= MANY_BYTES


def parts(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Cut records into parts of PART_BYTES, or of one record; most readings are one part."""
    part: list[Record] = []
    size = 0
    for record in records:
        size += len(record.value or b"")
        if size > PART_BYTES and part:
            yield part
            part, size = [], len(record.value or b"")
        part.append(record)
    if part:
        yield part


def watch(worker: Worker, clock: Clock) -> threading.Thread:
    """End the process when a transaction is open too long: librdkafka can ignore its timeouts."""

    def check() -> None:
        while True:
            time.sleep(WATCHDOG_STEP_S)
            began = worker.began
            if began is not None and clock() - began > WATCHDOG_S:
                os._exit(ExitCode.CRASH)

    thread = threading.Thread(target=check, name="watchdog", daemon=True)
    thread.start()
    return thread
