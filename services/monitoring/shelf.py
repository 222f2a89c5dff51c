"""What people put into use and what was signalled, read beside the work, again and again."""

from typing import Final

import structlog

from services.core.baseline import Baseline, Baselines
from services.core.errors import Refusal
from services.core.events import Signal, SignalStep
from services.monitoring.baselines import InUse, put_into_use
from services.runtime.codec import Codec
from services.runtime.envelope import SIGNALS
from services.runtime.kafka.client import Options
from services.runtime.kafka.follower import Follower
from services.runtime.ports import Record
from services.runtime.telemetry.metrics import Metrics

CHANGES: Final = "changes.v1"

log = structlog.stdlib.get_logger()


class Shelf:
    """The baselines in force, and the signals that stand open.

    `look` blocks and belongs into one thread of its own; `at` may be asked from any.
    """

    def __init__(self, codec: Codec, metrics: Metrics) -> None:
        """Begin with nothing.

        Args:
            codec: for events.
            metrics: where baselines and open signals are counted.
        """
        self._codec, self._metrics = codec, metrics
        self._in_use: list[InUse] = []
        self._baselines = Baselines()
        self._steps: set[tuple[str, str, int]] = set()
        self._open: dict[str, dict[str, str]] = {}

    def at(self, start: int) -> Baseline | None:
        """Give the baseline in force at a window's start, µs."""
        return self._baselines.at(start)

    def change(self, record: Record) -> None:
        """Take a record of changes.v1; an unusable baseline leaves the old one in force."""
        try:
            found = put_into_use(record.value or b"", self._codec)
        except Refusal as refusal:
            log.warning("baseline refused", offset=record.offset, because=str(refusal))
            self._metrics.counter("baselines_total", outcome="refused").inc()
            return
        if found is not None:
            self._in_use.append(found)
            self._baselines = Baselines(self._in_use)
            self._metrics.counter("baselines_total", outcome="taken").inc()
            log.info("baseline taken", since=found[0], digest=found[1].digest)

    def signal(self, record: Record) -> None:
        """Take a record of signals.v1; a step that is told again is old."""
        try:
            signal = self._codec.decode(record.value or b"", Signal)
        except Refusal:
            return
        name = (signal.signal_id, signal.step, signal.start)
        if name in self._steps:
            return
        self._steps.add(name)
        before = self._open.pop(signal.signal_id, None)
        if before is not None:
            self._move(before, -1)
        if signal.step is not SignalStep.CLOSED:
            self._open[signal.signal_id] = _labels(signal)
            self._move(self._open[signal.signal_id], 1)

    def _move(self, labels: dict[str, str], by: int) -> None:
        self._metrics.gauge("open_signals", **labels).inc(by)
        if labels not in self._open.values():
            self._metrics.forget("open_signals", **labels)


def _labels(signal: Signal) -> dict[str, str]:
    return {
        "reason": signal.metric,
        "feature": signal.feature,
        "cohort": signal.cohort,
        "outcome": signal.severity,
    }


def followers(options: Options, shelf: Shelf) -> list[Follower]:
    """Follow everything that a shelf keeps; raises as a follower does."""
    takes = {CHANGES: shelf.change, SIGNALS: shelf.signal}
    return [Follower(options, topic, take) for topic, take in takes.items()]
