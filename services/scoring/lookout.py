"""How far event time has come at the end of vitals.v1, for a life that finds a log waiting."""

from collections.abc import Callable
from typing import Final

import structlog

from services.core.errors import Refusal, Retry
from services.core.events import Kind, Vitals
from services.runtime.codec import Codec
from services.runtime.kafka.client import Options
from services.runtime.kafka.reader import Reader, stable_ends
from services.runtime.ports import Record
from services.scoring.watermark import Watermark

WAITED_S: Final = 60.0
"""A log that waited no longer is a restart's, which shall not take longer for this."""
TAIL: Final = 5000
"""So many records at the end are looked at: ten seconds, a tick of each source, at 2,000/s."""
PATIENCE_S: Final = 1.0
"""A transaction may be open meanwhile."""

log = structlog.stdlib.get_logger()


class Lookout:
    """Looks at the ticks among the last records of a partition; see `horizon.Look`."""

    def __init__(self, options: Options, codec: Codec, clock: Callable[[], float]) -> None:
        """Begin.

        Args:
            options: of the cluster.
            codec: for events.
            clock: seconds of real time, as the timestamps of the log have it.
        """
        self._options, self._codec, self._clock = options, codec, clock

    def __call__(self, record: Record) -> int | None:
        """Say how far event time is at the end of a record's partition; None for a short wait."""
        if self._clock() - record.timestamp_ms / 1000 < WAITED_S:
            return None
        clocks = Watermark()
        try:
            self._look(record, clocks)
        except Retry as error:
            # Better late and too much than nothing at all: nothing is held.
            log.warning("the end of the log could not be looked at", exc_info=error)
            return None
        return clocks.now

    def _look(self, record: Record, clocks: Watermark) -> None:
        place = (record.topic, record.partition)
        goals = stable_ends(self._options, [place])
        reader = Reader(self._options, {place: max(goals[place] - TAIL, record.offset)})
        try:
            for found in reader.until(goals, patience_s=PATIENCE_S):
                self._hear(clocks, found)
        finally:
            reader.close()

    def _hear(self, clocks: Watermark, record: Record) -> None:
        try:
            event = self._codec.decode(record.value or b"", Vitals)
        except Refusal:
            return  # scoring will say so when it comes there
        if event.kind is Kind.TICK:
            clocks.tick(event.source, event.measured_at)
