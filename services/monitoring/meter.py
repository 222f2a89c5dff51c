"""What a worker tells Prometheus about what it publishes."""

from collections.abc import Sequence

from services.core.events import DeadLetter, Measurement, Signal
from services.monitoring.outputs import DEAD_LETTERS, METRICS, TALLIES
from services.runtime.codec import Codec
from services.runtime.envelope import SIGNALS
from services.runtime.ports import Output, Record
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.progress import Progress


class WatchMeter:
    """Counts tallies, windows, measurements, signals and dead letters, and minds the progress.

    Args:
        progress: hears of every step too.
        metrics: where to count.
        codec: for events.
    """

    def __init__(self, progress: Progress, metrics: Metrics, codec: Codec) -> None:
        self._progress, self._metrics, self._codec = progress, metrics, codec

    def handled(self, records: Sequence[Record], outputs: Sequence[Output]) -> None:
        """Count what a record led to."""
        self._progress.handled(records, outputs)
        if not outputs:
            return
        windows = set()
        for output in outputs:
            value = output.value or b""
            if output.topic == TALLIES:
                self._metrics.counter("tallies_total").inc()
            elif output.topic == METRICS:
                measurement = self._codec.decode(value, Measurement)
                windows.add((measurement.start, measurement.end))
                self._stated(measurement)
            elif output.topic == SIGNALS:
                self._signalled(self._codec.decode(value, Signal))
            elif output.topic == DEAD_LETTERS:
                reason = self._codec.decode(value, DeadLetter).reason
                self._metrics.counter("dead_letters_total", reason=reason).inc()
        self._metrics.counter("windows_total").inc(len(windows))

    def committed(self, seconds: float) -> None:
        """Hear of a flush."""
        self._progress.committed(seconds)

    def _stated(self, measurement: Measurement) -> None:
        self._metrics.counter(
            "measurements_total", outcome=measurement.state, reason=measurement.metric
        ).inc()

    def _signalled(self, signal: Signal) -> None:
        self._metrics.counter("signals_total", outcome=signal.step, reason=signal.metric).inc()
