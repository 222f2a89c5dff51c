"""`python -m services.audit`: every record of every topic into the ledger."""

import os
import signal
import sys
import threading
import time

import structlog
from pydantic import ValidationError

from services.audit.migrate import read_migrations, require_current
from services.audit.pipeline import Limits, Loop, alone, resume, sources_of
from services.audit.settings import AuditSettings, StoreSettings
from services.audit.verdict import last
from services.core.errors import CommandError, ExitCode, Retry, Stop
from services.runtime.clickhouse import ClickHouse
from services.runtime.codec import Codec
from services.runtime.settings import KafkaSettings
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.health import Health, HealthServer
from services.runtime.telemetry.logs import configure
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.progress import Progress
from services.runtime.topics.files import Topic, read_topics

log = structlog.stdlib.get_logger()


def main() -> int:
    """Write until SIGTERM or SIGINT; give the exit code."""
    try:
        settings, doors = AuditSettings(), (KafkaSettings(), StoreSettings())
    except ValidationError as error:
        places = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors())
        sys.stderr.write(f"a setting of the audit service is wrong: {places}\n")
        return ExitCode.CONFIGURATION
    configure("audit", settings.log_level)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    build = Build.of("audit")
    metrics = Metrics(build)
    progress = Progress(metrics, time.monotonic)
    try:
        contracts, codec = read_topics(settings.schemas), Codec(settings.schemas)
        health = Health(build, metrics, progress.ready, settings.metrics_token())
        server = HealthServer(health, settings.metrics_port, settings.metrics_host)
    except (CommandError, OSError, ValueError) as error:
        because = error.told if isinstance(error, CommandError) else str(error)
        log.error("not started", because=because)  # noqa: TRY400 - our logs tell no values
        return ExitCode.CONFIGURATION
    except Retry as error:
        log.error("not started", exc_info=error)  # noqa: TRY400 - our logs tell no values
        return ExitCode.CRASH
    log.info("started", version=build.version, port=server.port)
    loop = _Life(settings, doors, contracts, codec)
    try:
        loop.run(metrics, progress, stopping)
    except Exception as error:
        log.error("ended", exc_info=error)  # noqa: TRY400 - our logs tell no values
        sys.stderr.flush()
        os._exit(ExitCode.STOP if isinstance(error, Stop) else ExitCode.CRASH)
    server.close()
    log.info("stopped")
    return ExitCode.OK


class _Life:
    """One life of the process: takes the lock, then looks at the store, then writes."""

    def __init__(
        self,
        settings: AuditSettings,
        doors: tuple[KafkaSettings, StoreSettings],
        contracts: list[Topic],
        codec: Codec,
    ) -> None:
        self._settings, self._contracts, self._codec = settings, contracts, codec
        self._options, self._store = doors[0].client_options(), doors[1]

    def run(self, metrics: Metrics, progress: Progress, stopping: threading.Event) -> None:
        with alone(self._settings.home):
            store = ClickHouse(
                self._store.url,
                user=self._store.user,
                password=self._store.password(),
                timeout_s=self._store.timeout_s,
            )
            require_current(store, read_migrations())
            sources = sources_of(self._options, self._contracts)
            reader, recorder = resume(self._options, store, sources, self._codec)
            log.info("resumed", topics=sorted(sources))
            limits = Limits(
                rows=self._settings.block_rows,
                bytes=self._settings.block_bytes,
                seconds=self._settings.block_s,
            )
            loop = Loop(
                store,
                limits,
                metrics=metrics,
                progress=progress,
                clock=time.monotonic,
                look=lambda: _show(metrics, store),
            )
            loop.run(reader, recorder, stopping)
            reader.close()
            store.close()


def _show(metrics: Metrics, store: ClickHouse) -> None:
    """Show what the ledger's last verification found; no answer is no reason not to write."""
    try:
        found = last(store)
    except Retry as error:
        log.warning("not shown", because=str(error))
        return
    metrics.gauge("ledger_verified_timestamp_seconds").set(found.good_at)
    metrics.gauge("ledger_findings").set(found.findings)


if __name__ == "__main__":
    sys.exit(main())
