"""The flow: a request comes to the desk, its record goes out, and only then it is answered."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from os import urandom
from time import monotonic, time_ns
from typing import Final

import structlog
from fastapi import FastAPI

from services.core.errors import Retry
from services.gateway.app import make_app
from services.gateway.outbox import Outbox
from services.gateway.reception.desk import Desk
from services.gateway.reception.records import TOPIC
from services.gateway.reception.sources import Sources
from services.runtime.kafka.publisher import Publisher
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.health import Health
from services.runtime.telemetry.metrics import Metrics

TICK_EVERY_S: Final = 10.0
FLUSH_S: Final = 6.0

log = structlog.stdlib.get_logger()


def assemble(
    sources: Sources, key: bytes, publisher: Publisher, *, build: Build, stop: Callable[[], None]
) -> FastAPI:
    """Put the gateway together.

    Args:
        sources: who may send.
        key: the pseudonym key.
        publisher: the way to Kafka.
        build: which program this is.
        stop: ends the process when the publisher is broken for good.
    """
    desk = Desk(sources, key, clock=lambda: time_ns() // 1000, randomness=urandom)
    outbox = Outbox(publisher, TOPIC, monotonic)
    metrics = Metrics(build)
    metrics.gauge("unconfirmed_records").set_function(lambda: outbox.waiting)

    async def watch() -> None:
        try:
            await outbox.probe()
        except Retry as error:
            log.exception("ended", exc_info=error)
            stop()

    @asynccontextmanager
    async def beside_requests(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(watch()), asyncio.create_task(tick(desk, outbox, metrics))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        log.info("stopped", records_left=outbox.flush(FLUSH_S))

    health = Health(build, metrics, outbox.ready)
    return make_app(desk, outbox.deliver, health=health, metrics=metrics, lifespan=beside_requests)


async def tick(desk: Desk, outbox: Outbox, metrics: Metrics) -> None:
    """Tell the time, every ten seconds, for sources whose clock is the gateway's."""
    while True:
        await asyncio.sleep(TICK_EVERY_S)
        for record in desk.due_ticks():
            try:
                await outbox.deliver(record)
            except Retry:
                metrics.counter("ticks_total", outcome="lost").inc()
            else:
                metrics.counter("ticks_total", outcome="sent").inc()
