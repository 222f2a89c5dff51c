"""`python -m services.monitoring`: predictions.v1 and labelled.v1 to metrics.v1 and signals.v1."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from pydantic import ValidationError

from services.core.errors import CommandError, ExitCode, Retry, Stop
from services.core.faults import Fault
from services.monitoring.app import Monitor, Wiring
from services.monitoring.counting import CountTask
from services.monitoring.desk import MakeTask
from services.monitoring.detectors import adwin
from services.monitoring.families import Family, families
from services.monitoring.judging import JudgeTask
from services.monitoring.meter import WatchMeter
from services.monitoring.outputs import LABELLED, PREDICTIONS, TALLIES
from services.monitoring.quiet import quieten
from services.monitoring.settings import MonitoringSettings
from services.monitoring.shelf import Shelf, followers
from services.monitoring.transport import check_pins
from services.runtime.codec import Codec
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.client import Options
from services.runtime.kafka.follower import Follower
from services.runtime.settings import KafkaSettings
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.health import Health, HealthServer
from services.runtime.telemetry.logs import configure
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.progress import Progress

TABLES: Mapping[str, str] = {PREDICTIONS: "folds", LABELLED: "folds", TALLIES: "merged"}
LOOK_S = 10.0

log = structlog.stdlib.get_logger()


def main() -> int:
    """Watch until SIGTERM or SIGINT; give the exit code."""
    try:
        settings, options = MonitoringSettings(), KafkaSettings().client_options()
    except ValidationError as error:
        places = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors())
        sys.stderr.write(f"a setting of monitoring is wrong: {places}\n")
        return ExitCode.CONFIGURATION
    configure("monitoring", settings.log_level)
    quieten(time.monotonic)
    return asyncio.run(_Life(settings, options).run())


class _Life:
    """One life of the process."""

    def __init__(self, settings: MonitoringSettings, options: Options) -> None:
        self._settings, self._options = settings, options
        self._build = Build.of("monitoring")
        self._metrics = Metrics(self._build)
        self._progress = Progress(self._metrics, time.monotonic)

    async def run(self) -> int:
        """Watch until told to stop; a broken process ends here and does not return."""
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        try:
            check_pins()
            codec = Codec(self._settings.schemas)
            shelf = Shelf(codec, self._metrics)
            following = followers(self._options, shelf)
            _look(following)
            adwin(())  # loads river: seconds in which no record would be handled later
            monitor = self._monitor(codec, shelf)
            server = self._serve(monitor.ready)
        except (CommandError, OSError, ValueError) as error:
            because = error.told if isinstance(error, CommandError) else str(error)
            log.error("not started", exc_info=error, because=because)  # noqa: TRY400 - our logs tell no values
            return ExitCode.CONFIGURATION
        except Retry as error:
            log.error("not started", exc_info=error)  # noqa: TRY400 - our logs tell no values
            return ExitCode.CRASH
        log.info("started", version=self._build.version, port=server.port)
        try:
            await monitor.run(stopping, lambda: _follow(following))
        except Exception as error:
            log.error("ended", exc_info=error)  # noqa: TRY400 - our logs tell no values
            sys.stderr.flush()
            os._exit(ExitCode.STOP if isinstance(error, Stop) else ExitCode.CRASH)
        server.close()
        log.info("stopped")
        return ExitCode.OK

    def _monitor(self, codec: Codec, shelf: Shelf) -> Monitor:
        settings = self._settings
        wiring = Wiring(
            service="monitoring",
            partitions=partitions(self._options),
            tables=TABLES,
            member=f"monitoring-{settings.instance}" if settings.monitoring_static else None,
            flush_s=settings.monitoring_flush_s,
        )
        meter = WatchMeter(self._progress, self._metrics, codec)
        makers = tasks(families(shelf.at), codec, sources=wiring.partitions)
        return Monitor(wiring, self._options, makers, meter=meter, progress=self._progress)

    def _serve(self, ready: Callable[[], tuple[bool, str]]) -> HealthServer:
        settings = self._settings
        health = Health(self._build, self._metrics, ready, settings.metrics_token())
        return HealthServer(health, settings.metrics_port, settings.metrics_host)


def tasks(watched: Sequence[Family], codec: Codec, *, sources: int) -> dict[str, MakeTask]:
    """Say what makes the task of a partition of each topic that is read.

    Args:
        watched: the families of windows.
        codec: for events.
        sources: how many partitions each source has; a window waits for all of them.
    """

    def counting(family: Family) -> MakeTask:
        return lambda partition: CountTask(family.fold(partition), family.event, codec)

    judges = [family.judge for family in watched]
    return {
        **{family.topic: counting(family) for family in watched},
        TALLIES: lambda _: JudgeTask(judges, sources, codec),
    }


def partitions(options: Options) -> int:
    """Ask how many partitions the topics that are read have.

    Raises:
        CommandError: not all the same number; their tables would not fit.
        Retry: the cluster does not answer, or lacks one of them.
    """
    found = {topic: len(partitions_of(options, [topic])) for topic in TABLES}
    if len(set(found.values())) != 1:
        raise CommandError(
            "predictions.v1, labelled.v1 and tallies.v1 have different numbers of partitions.",
            "Make them again by `vigil topics apply`.",
            Fault.PARTITIONS,
        )
    return found[TALLIES]


def _look(following: list[Follower]) -> None:
    for each in following:
        each.look()


async def _follow(following: list[Follower]) -> None:
    """Look again beside the work; an outage is none of ours, Faust outlives it."""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            await asyncio.to_thread(_look, following)
        except Retry as error:
            log.warning("changes could not be read", exc_info=error)


if __name__ == "__main__":
    sys.exit(main())
