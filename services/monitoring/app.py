"""The Faust app around the desk: how it is made, how it lives, how it ends."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import faust
import msgspec
import structlog
from faust.types import TP

from services.core.errors import Retry
from services.monitoring.agents import FaustWire, add_agents
from services.monitoring.desk import Desk, MakeTask, Meter, Place, standing
from services.monitoring.outputs import TALLIES
from services.monitoring.transport import CommittedApp, delivered
from services.runtime.kafka.client import Options
from services.runtime.tables import written
from services.runtime.telemetry.progress import Progress

LOOK_S: Final = 0.2
"""How long an output waits for its writing at most."""
LAG_S: Final = 1.0
SESSION_S: Final = 10.0
HEARTBEAT_S: Final = 2.0
FROZEN_S: Final = SESSION_S - HEARTBEAT_S
"""Whoever stood still for longer may have lost its partitions unawares."""
MESSAGE_BYTES: Final = 2_097_152
BATCH_BYTES: Final = 2_000_000
"""A flush of one partition is written in one batch, so that it is read back whole."""
BUFFERED_RUNS: Final = 32
"""Of each topic so many runs of records wait in memory; what is behind them waits in Kafka."""

log = structlog.stdlib.get_logger()


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """Under which name an app works, and on what.

    Args:
        service: name of the group and of the changelogs.
        partitions: of every topic that is read.
        tables: per topic that is read the name of its table, which its changelog is called by.
        member: static name in the group; None for a dynamic member.
        flush_s: how often rows are written and records acknowledged.
        prefix: of every topic but the changelogs, for tests.
    """

    service: str
    partitions: int
    tables: Mapping[str, str]
    member: str | None = None
    flush_s: float = 5.0
    prefix: str = ""


class Monitor:
    """One worker, from its start to its end."""

    def __init__(
        self,
        wiring: Wiring,
        options: Options,
        makers: Mapping[str, MakeTask],
        *,
        meter: Meter,
        progress: Progress,
    ) -> None:
        """Make the app inside the running loop; nothing is read yet.

        Args:
            wiring: names.
            options: of the cluster.
            makers: per topic what makes an empty task for a partition number.
            meter: hears of every record and every flush.
            progress: hears of assignments and of lag, and knows whether there is progress.
        """
        self._wiring, self._options, self._progress = wiring, options, progress
        self.app = app_of(wiring, options)
        self._changelogs = {
            topic: f"{wiring.service}-{name}-changelog" for topic, name in wiring.tables.items()
        }
        wire = FaustWire(self.app, self._changelogs, wiring.prefix)
        self.desk = Desk(makers, wire, meter=meter, clock=time.monotonic, singly={TALLIES})
        self._failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        add_agents(self.app, self.desk, prefix=wiring.prefix, fail=self.fail)
        self.app.on_partitions_revoked.connect(self._revoked)
        self.app.on_rebalance_complete.connect(self._restore)
        self._held: frozenset[Place] = frozenset()

    def fail(self, error: Exception) -> None:
        """End the life of this worker."""
        if not self._failed.done():
            self._failed.set_result(error)

    async def run(self, stopping: asyncio.Event, *beside: Callable[[], Awaitable[None]]) -> None:
        """Work until `stopping` is set; then flush, commit and leave.

        Args:
            stopping: set by a signal.
            beside: work of the caller's that lives as long.

        Raises:
            Stop: from a task.
            Retry: Kafka failed, or this process stood still for too long.
            Exception: whatever else a task raised; end the process.
        """
        self.app.finalize()
        await self.app.maybe_start()
        rounds = (self._watch, self._mind, *beside)
        tasks = [asyncio.create_task(self._guarded(work)) for work in rounds]
        flushing = asyncio.create_task(self._guarded(lambda: self._flush(stopping)))
        asked = asyncio.create_task(stopping.wait())
        await self._until(asked)
        await self._until(flushing)
        if self._failed.done():
            raise self._failed.result()
        for task in tasks:
            task.cancel()
        await self.app.stop()

    def ready(self) -> tuple[bool, str]:
        """Say whether offsets move, or there is nothing to move them for; and if not, why."""
        read = {topic for topic, _ in self._held}
        if not self._held or self.app.rebalancing:
            return False, "no partition is held and restored"
        if read != self.desk.topics:
            return False, f"no partition of {min(self.desk.topics - read)} is held"
        return self._progress.ready()

    async def _until(self, task: asyncio.Task[Any]) -> None:
        waited: list[asyncio.Future[Any]] = [self._failed, task]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - it ends the process
            self.fail(error)

    async def _revoked(self, *_: object, **__: object) -> None:
        self.desk.close()

    async def _restore(self, *_: object, **__: object) -> None:
        """Begin anew with what the changelogs hold: the group handed out partitions."""
        prefix = self._wiring.prefix
        assigned = self.app.consumer.assignment()
        places = {(tp.topic.removeprefix(prefix), tp.partition) for tp in assigned}
        try:
            rows = await asyncio.to_thread(self._rows, places)
        except Retry as error:
            self.fail(error)
            return
        loaded = self.desk.open(places, rows.items())
        self._held = frozenset(places)
        self._progress.assigned(sorted(places), loaded)
        log.info("restored", partitions=len(places), rows=loaded)

    def _rows(self, places: set[Place]) -> dict[bytes, bytes]:
        partitions = sorted({(self._changelogs[topic], number) for topic, number in places})
        records = written(self._options, partitions) if partitions else ()
        return standing((record.key or b"", record.value) for record in records)

    async def _mind(self) -> None:
        await self.app._crashed.wait()  # noqa: SLF001 - a Service has no public way to wait for it
        raise Retry("Faust gave up") from self.app.crash_reason

    async def _flush(self, stopping: asyncio.Event) -> None:
        """Publish soon, settle every `flush_s`; real time decides when to write, never what."""
        settle_at = looked = time.monotonic()
        while not stopping.is_set():
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            if now - looked > FROZEN_S:
                raise Retry(f"the process stood still for {now - looked:.0f} s")
            if now >= settle_at:
                await self.desk.settle()
                settle_at = time.monotonic() + self._wiring.flush_s
            else:
                await self.desk.publish()
            looked = time.monotonic()
        await self.desk.settle()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LAG_S)
            if self._held and not self.app.rebalancing:
                self._progress.behind({place: await self._lag(place) for place in self._held})

    async def _lag(self, place: Place) -> int:
        """Count the offsets before the end of a partition that were not handled yet."""
        tp = TP(self._wiring.prefix + place[0], place[1])
        end, read = self.app.consumer.highwater(tp) or 0, delivered(self.app, tp)
        handled = self.desk.position(place)
        if handled is None or read is None or handled >= read:
            return max(end - await self._at(tp), 0)
        return max(end - handled - 1, 0)

    async def _at(self, tp: TP) -> int:
        """Say where reading stands: behind markers and aborted records, which nobody is handed."""
        try:
            return await asyncio.wait_for(self.app.consumer.position(tp), LAG_S) or 0
        except TimeoutError:
            return 0


def app_of(wiring: Wiring, options: Options) -> CommittedApp:
    """Make the app that the measurements in `docs/monitoring.md` were made with."""
    return CommittedApp(
        wiring.service,
        broker=[f"kafka://{address}" for address in str(options["bootstrap.servers"]).split(",")],
        broker_credentials=credentials(options),
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=wiring.member,
        consumer_max_fetch_size=2 * MESSAGE_BYTES,
        producer_max_batch_size=BATCH_BYTES,
        producer_max_request_size=MESSAGE_BYTES,
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        stream_buffer_maxsize=BUFFERED_RUNS,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )


def credentials(options: Options) -> faust.types.auth.CredentialsT | None:
    """Say to Faust what librdkafka's options say: nothing, TLS, SASL, or both."""
    protocol = options.get("security.protocol", "PLAINTEXT")
    authority = options.get("ssl.ca.location")
    context = None
    if protocol in ("SSL", "SASL_SSL"):
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
    if protocol in ("SASL_PLAINTEXT", "SASL_SSL"):
        return faust.SASLCredentials(
            username=str(options["sasl.username"]),
            password=str(options["sasl.password"]),
            mechanism=str(options["sasl.mechanism"]),
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)
