"""Where tallies, measurements and dead letters are written, and under which keys."""

import hashlib
from typing import Final

from services.core.errors import Refusal
from services.core.events import DeadLetter, Measurement, Tally
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record

PREDICTIONS: Final = "predictions.v1"
LABELLED: Final = "labelled.v1"
TALLIES: Final = "tallies.v1"
METRICS: Final = "metrics.v1"
DEAD_LETTERS: Final = "dlq.v1"
FOLDS_CHANGELOG: Final = "monitoring-folds-changelog"
MERGED_CHANGELOG: Final = "monitoring-merged-changelog"


def tally_output(codec: Codec, tally: Tally) -> Output:
    """Write a tally where all windows of its family meet."""
    return Output(TALLIES, tally.family.encode(), codec.encode(tally))


def measurement_output(codec: Codec, measurement: Measurement) -> Output:
    """Write a measurement; its key names everything but the revision."""
    m = measurement
    key = "/".join((m.metric, m.feature, m.cohort, m.unit_of_analysis, str(m.start), str(m.end)))
    return Output(METRICS, key.encode(), codec.encode(measurement))


def dead_output(codec: Codec, record: Record, refusal: Refusal) -> Output:
    """Tell of a record that cannot be used; monitoring holds no key, so the digest alone stays."""
    value = record.value or b""
    dead = DeadLetter(
        reason=refusal.reason,
        place=refusal.place,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        entry=-1,
        source="",
        received_at=record.timestamp_ms * 1000,
        length=len(value),
        sha256=hashlib.sha256(value).digest(),
        key_epoch=0,
        payload=b"",
    )
    key = f"{dead.topic}/{dead.partition}/{dead.offset}"
    return Output(DEAD_LETTERS, key.encode(), codec.encode(dead))
