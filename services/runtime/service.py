"""A process around the loop: signals, logs, health, and how it ends."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from services.core.errors import CommandError, ExitCode, Retry, Stop
from services.runtime.kafka import admin
from services.runtime.kafka.client import Options
from services.runtime.settings import ServiceSettings
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.health import Health, HealthServer
from services.runtime.telemetry.logs import configure
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.progress import Progress
from services.runtime.worker import MakeTask, Plan, Worker, watch

LEAVE_S: Final = 5.0
"""How long a dying process may take to leave its group."""

log = structlog.stdlib.get_logger()


def run(
    plan: Plan,
    options: Options,
    settings: ServiceSettings,
    make: Callable[[Metrics], MakeTask],
) -> int:
    """Run one instance of an exactly-once service until SIGTERM or SIGINT.

    A broken process does not return: it leaves its group and exits at once, so that no thread of a
    client can hold it.

    Args:
        plan: what is read and written.
        options: of the cluster.
        settings: of the service.
        make: makes the maker of tasks, given the service's metrics.

    Returns:
        The exit code of an orderly end.
    """
    configure(plan.service, settings.log_level)
    build = Build.of(plan.service)
    metrics = Metrics(build)
    progress = Progress(metrics, time.monotonic)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        make_task = make(metrics)
        admin.partitions_of(options, [*plan.inputs, *filter(None, [plan.changelog])])
        health = Health(build, metrics, progress.ready, settings.metrics_token())
        server = HealthServer(health, settings.metrics_port, settings.metrics_host)
    except (CommandError, OSError) as error:
        log.error("not started", exc_info=error, because=_remedy(error))  # noqa: TRY400 - our logs tell no values
        return ExitCode.CONFIGURATION
    except Retry as error:
        log.error("not started", exc_info=error)  # noqa: TRY400 - our logs tell no values
        return ExitCode.CRASH
    worker = Worker(plan, options, make_task, progress, time.monotonic)
    watch(worker, time.monotonic)
    log.info("started", version=build.version, port=server.port)
    try:
        worker.run(stopping)
    except Exception as error:
        metrics.counter("transactions_total", outcome="failed").inc()
        log.error("ended", exc_info=error)  # noqa: TRY400 - our logs tell no values
        _leave(worker, ExitCode.STOP if isinstance(error, Stop) else ExitCode.CRASH)
    server.close()
    log.info("stopped")
    return ExitCode.OK


def _remedy(error: Exception) -> str:
    return error.told if isinstance(error, CommandError) else str(error)


def _leave(worker: Worker, code: ExitCode) -> None:
    threading.Timer(LEAVE_S, os._exit, (code,)).start()
    try:
        worker.die()
    finally:
        os._exit(code)
