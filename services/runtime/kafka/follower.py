"""Follows a topic beside the work: all of it once, then whatever comes."""

from collections.abc import Callable
from typing import Final

from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.client import Options
from services.runtime.kafka.reader import Reader, stable_ends, starts
from services.runtime.ports import Record

PATIENCE_S: Final = 20.0
GATHER_S: Final = 0.5


class Follower:
    """Reads a topic from its start, and from where it came to whenever it is asked again.

    One thread at a time may ask.
    """

    def __init__(self, options: Options, topic: str, take: Callable[[Record], None]) -> None:
        """Begin at the start; raises Retry when the cluster does not answer or lacks the topic."""
        self._options, self._take = options, take
        self._places = partitions_of(options, [topic])
        self._reader = Reader(options, starts(options, self._places), gather_s=GATHER_S)

    def look(self) -> None:
        """Read to the present end; may block for seconds.

        Raises:
            Retry: Kafka is away; ask again.
        """
        goals = stable_ends(self._options, self._places)
        for record in self._reader.until(goals, patience_s=PATIENCE_S):
            self._take(record)

    def heed(self, timeout_s: float) -> None:
        """Take what comes within so many seconds; raises as `look` does."""
        for record in self._reader.read(timeout_s):
            self._take(record)
