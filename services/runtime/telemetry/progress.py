"""Progress of an exactly-once loop: its metrics, and whether it is ready."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.core.metrics import GaugeName
from services.runtime.ports import Output, Record
from services.runtime.telemetry.metrics import Metrics

AT_REST_RECORDS: Final = 1
"""Lag of an idle partition: the marker of the last commit takes an offset too."""
SILENCE_S: Final = 10.0
OF_A_PARTITION: Final[tuple[GaugeName, ...]] = ("lag_records", "watermark_timestamp_seconds")
"""Series that end when the partition is given up."""

Partition = tuple[str, int]
Clock = Callable[[], float]


class Progress:
    """Hears about each step of the loop (a `Meter` of `runtime.worker`); counts it when committed.

    Used by the loop's thread; `ready` may be asked from any.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        """Begin with no progress.

        Args:
            metrics: where to count.
            clock: monotonic seconds.
        """
        self._metrics, self._clock = metrics, clock
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._lag: dict[Partition, int] = {}
        self._heard_at: float | None = None
        self._moved_at = clock()

    def handled(self, records: Sequence[Record], outputs: Sequence[Output]) -> None:  # noqa: ARG002 - a Meter hears both
        """Remember a batch until its transaction is committed."""
        self._open.update(record.topic for record in records)

    def committed(self, seconds: float) -> None:
        """Count what the transaction held."""
        self._metrics.histogram("transaction_seconds").observe(seconds)
        self._metrics.histogram("batch_records").observe(self._open.total())
        self._metrics.counter("transactions_total", outcome="committed").inc()
        for topic, number in self._open.items():
            self._metrics.counter("records_total", topic=topic).inc(number)
        self._open.clear()
        with self._lock:
            self._moved_at = self._clock()

    def assigned(self, partitions: Sequence[Partition], rows: int) -> None:
        """Note from how many rows of the changelog the state was restored."""
        if partitions:
            self._metrics.gauge("restored_rows").set(rows)

    def behind(self, lag: Mapping[Partition, int]) -> None:
        """Show the lag of the partitions that are held, and forget those that were given up."""
        for topic, number in self._lag.keys() - lag.keys():
            for name in OF_A_PARTITION:
                self._metrics.forget(name, topic=topic, partition=str(number))
        for (topic, number), records in lag.items():
            self._metrics.gauge("lag_records", topic=topic, partition=str(number)).set(records)
        with self._lock:
            self._lag, self._heard_at = dict(lag), self._clock()

    def ready(self) -> tuple[bool, str]:
        """Say whether offsets move, or there is nothing to move them for; and if not, why."""
        with self._lock:
            lag, heard_at, moved_at = self._lag, self._heard_at, self._moved_at
        now = self._clock()
        if heard_at is None:
            return False, "no partition has been read yet"
        if now - heard_at > SILENCE_S:
            return False, f"the loop has not turned for {now - heard_at:.0f} s"
        if max(lag.values(), default=0) > AT_REST_RECORDS and now - moved_at > SILENCE_S:
            return False, f"records wait and nothing was committed for {now - moved_at:.0f} s"
        return True, ""
