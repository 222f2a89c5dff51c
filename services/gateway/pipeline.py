"""The flow: a request comes to the desk, its record goes out, and only then it is answered."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from os import urandom
from pathlib import Path
from time import monotonic, time_ns
from typing import Final

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from services.core.errors import CommandError, ExitCode, Retry, Stop
from services.gateway.app import make_app
from services.gateway.catching import Catching, Followed
from services.gateway.depot import Depot
from services.gateway.mllp import Mllp
from services.gateway.noticing import NOTICES, Noticing
from services.gateway.outbox import Outbox
from services.gateway.reception.body import check_object
from services.gateway.reception.credentials import Source
from services.gateway.reception.desk import Desk
from services.gateway.reception.hearing import FEEDBACK, OUTCOMES, Hearing
from services.gateway.reception.records import TOPIC
from services.gateway.reception.sources import Sources
from services.gateway.rest import Deliver
from services.gateway.tokens import UsedTokens
from services.runtime.codec import Codec
from services.runtime.kafka.publisher import Publisher
from services.runtime.ports import Output
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.health import Health
from services.runtime.telemetry.metrics import Metrics

TICK_EVERY_S: Final = 10.0
FLUSH_S: Final = 6.0
ASK_EVERY_S: Final = 2.0

Ending = Callable[[ExitCode], None]
"""Ends the process, with this code."""
Following = tuple[list[Followed], Path | None]
AskPartitions = Callable[[list[str]], list[tuple[str, int]]]
"""Lists every partition of topics; may block, raises Retry when the cluster does not say."""

log = structlog.stdlib.get_logger()


def now_us() -> int:
    """Read the real clock, microseconds since the epoch."""
    return time_ns() // 1000


def assemble(  # noqa: PLR0913 - a gateway has as many sides
    sources: Sources,
    key: bytes,
    codec: Codec,
    publisher: Publisher,
    *,
    ask: AskPartitions,
    build: Build,
    token: str,
    stop: Ending,
    abandon: Ending,
    make_depot: Callable[[Outbox], Depot] | None = None,
    used: UsedTokens | None = None,
    open_mllp: Callable[[Mllp], Awaitable[None]] | None = None,
    followed: Following | None = None,
) -> ASGIApp:
    """Put the gateway together.

    Args:
        sources: who may send.
        key: the pseudonym key.
        codec: writes answers and outcomes.
        publisher: the way to Kafka.
        ask: tells the partitions of topics.
        build: which program this is.
        token: what one must show to see the metrics.
        stop: ends the process in good order, as when the publisher is broken for good.
        abandon: ends it at once: a thread hangs that nothing can end.
        make_depot: gives what keeps records on disk while Kafka is away; without it they are
            turned away.
        used: keeps which one-time tokens were used; without it this process alone knows.
        open_mllp: opens the door for HL7 v2; without it there is none.
        followed: the subscriptions whose servers can be asked, and where their marks are kept.
    """
    desk = Desk(sources, key, clock=now_us, randomness=urandom)
    partitions: dict[str, int] = {}
    hearing = Hearing(key, codec.encode, partitions)
    outbox = Outbox(publisher, TOPIC, monotonic)
    depot = make_depot(outbox) if make_depot else None
    way = depot or outbox
    metrics = Metrics(build)
    metrics.gauge("unconfirmed_records").set_function(lambda: outbox.waiting)
    metrics.gauge("outbox_records").set_function(lambda: depot.kept if depot else 0)
    metrics.gauge("outbox_bytes").set_function(lambda: depot.kept_bytes if depot else 0)

    subscriptions, marks = followed or ([], None)
    catching = Catching(subscriptions, metrics, clock=monotonic, marks=marks)

    async def take(source: str, body: bytes) -> None:
        check_object(body)
        _, record = desk.translated(Source(id=source), body, declared=None)
        await way.deliver(record)

    deliver = _after_tokens(used, way.deliver) if used else way.deliver
    meeting: dict[str, int] = {}
    noticing = Noticing(deliver, codec.encode, now_us, meeting)
    mllp = Mllp(desk, deliver, metrics, noticing.happened)

    @asynccontextmanager
    async def beside_requests(_: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(watch(outbox, stop)),
            asyncio.create_task(tick(desk, way, metrics)),
            asyncio.create_task(learn(partitions, ask, [FEEDBACK, OUTCOMES])),
            asyncio.create_task(learn(meeting, ask, [NOTICES])),
            asyncio.create_task(catching.watch(take)),
            asyncio.create_task(noticing.watch(catching.stands)),
        ]
        if depot:
            tasks.append(asyncio.create_task(empty(depot, stop, abandon)))
        if open_mllp:
            await open_mllp(mllp)
        _set_aside_what_stays()
        yield
        await mllp.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(catching.keep)
        log.info("stopped", records_left=outbox.flush(FLUSH_S))
        if used:
            await used.close()
        if depot:
            await depot.close()

    health = Health(build, metrics, way.ready, token)
    return make_app(
        desk,
        hearing,
        deliver,
        health=health,
        metrics=metrics,
        lifespan=beside_requests,
        catching=catching,
    )


def _set_aside_what_stays() -> None:
    """Spare the garbage collector what was made at the start.

    Records under way look to it like memory that grows, so that every few seconds it would go
    through all there is, while no message is answered: 50 to 240 ms were measured.
    """
    gc.collect()
    gc.freeze()


def _after_tokens(used: UsedTokens, deliver: Deliver) -> Deliver:
    """Keep the token first: no record is stored whose token could bring another."""

    async def kept(record: Output) -> None:
        await used.kept()
        await deliver(record)

    return kept


async def watch(outbox: Outbox, stop: Ending) -> None:
    """End the process when its Kafka client is broken for good."""
    try:
        await outbox.probe()
    except Retry as error:
        log.exception("ended", exc_info=error)
        stop(ExitCode.CRASH)


async def empty(depot: Depot, stop: Ending, abandon: Ending) -> None:
    """Write what the disk holds whenever Kafka answers; end the process where it cannot be."""
    try:
        await depot.drain()
    except Stop as error:
        log.exception("ended", exc_info=error)
        stop(ExitCode.STOP)
    except CommandError as error:
        log.error("ended", because=error.told)  # noqa: TRY400 - our logs tell no values
        stop(ExitCode.CONFIGURATION)
    except Exception as error:  # noqa: BLE001 - what is kept is on the disk: the next life goes on
        log.error("abandoned", because=type(error).__name__)  # noqa: TRY400 - as above
        abandon(ExitCode.CRASH)


async def learn(
    partitions: MutableMapping[str, int], ask: AskPartitions, topics: list[str]
) -> None:
    """Learn once how many partitions topics have: it never changes."""
    told = ""
    while not partitions:
        try:
            partitions.update(_counts(await asyncio.to_thread(ask, topics)))
        except Retry as error:
            if str(error) != told:  # once, not for as long as it lasts
                told = str(error)
                log.warning("topics are not known yet", topics=topics, because=told)
            await asyncio.sleep(ASK_EVERY_S)


def _counts(partitions: list[tuple[str, int]]) -> Mapping[str, int]:
    return Counter(topic for topic, _ in partitions)


async def tick(desk: Desk, way: Outbox | Depot, metrics: Metrics) -> None:
    """Tell the time, every ten seconds, for sources whose clock is the gateway's."""
    while True:
        await asyncio.sleep(TICK_EVERY_S)
        for record in desk.due_ticks():
            try:
                await way.deliver(record)
            except Retry:
                metrics.counter("ticks_total", outcome="lost").inc()
            else:
                metrics.counter("ticks_total", outcome="sent").inc()
