"""Judging: the tallies of all source partitions become measurements, and those become signals."""

from collections.abc import Iterable, Sequence

from services.core.errors import Reason, Refusal
from services.core.events import Tally
from services.core.judge.verdict import Judge
from services.monitoring.docket import Docket, Stated
from services.monitoring.outputs import dead_output, measurement_output
from services.runtime.codec import Codec
from services.runtime.envelope import signal_output
from services.runtime.ports import Output, Record, Row


class JudgeTask:
    """The task of one partition of tallies.v1; satisfies `ports.Task`.

    Publish what `handle` gives before you keep what `changes` gives, and keep that in its order.

    Args:
        judges: one per family.
        partitions: how many partitions the sources have; a window waits for all of them.
        codec: for events.
    """

    def __init__(self, judges: Sequence[Judge], partitions: int, codec: Codec) -> None:
        self._codec = codec
        self._dockets = {judge.family: Docket(judge, partitions) for judge in judges}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one row of the changelog; one of another family is none of ours."""
        family, _, rest = key.decode().rpartition("/")
        docket = self._dockets.get(family)
        if docket is not None:
            docket.load(rest.encode(), value)

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        """Take tallies in order; give what is to be said after each."""
        for record in records:
            try:
                stated = self._take(record)
            except Refusal as refusal:
                yield dead_output(self._codec, record, refusal)
            else:
                for measurement in stated.measurements:
                    yield measurement_output(self._codec, measurement)
                for signal in stated.signals:
                    yield signal_output(self._codec, signal, by="monitoring")

    def flush(self) -> Iterable[Output]:
        """Give what is still to be said: nothing, as each tally is judged when it comes."""
        return ()

    def changes(self) -> Iterable[Row]:
        """Give the rows of the windows that changed since the last call."""
        for family, docket in self._dockets.items():
            for key, row in docket.rows():
                yield f"{family}/".encode() + key, row

    def _take(self, record: Record) -> Stated:
        tally = self._codec.decode(record.value or b"", Tally)
        if tally.family not in self._dockets:
            raise Refusal(Reason.SCHEMA_UNKNOWN, "family")
        return self._dockets[tally.family].take(tally)
