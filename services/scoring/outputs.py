"""Where predictions and alerts are written, and what an alert's envelope says."""

import hashlib
from datetime import UTC, datetime
from typing import Final

from services.core.errors import Refusal
from services.core.events import Alert, DeadLetter, alert_event_id
from services.runtime.ports import Output, Record

VITALS: Final = "vitals.v1"
PREDICTIONS: Final = "predictions.v1"
ALERTS: Final = "alerts.v1"
DEAD_LETTERS: Final = "dlq.v1"
CHANGELOG: Final = "scoring-changelog"


def prediction_output(value: bytes, partition: int) -> Output:
    """Write a batch to the partition number of its vitals; it has no key."""
    return Output(PREDICTIONS, None, value, partition)


def alert_output(value: bytes, alert: Alert, partition: int) -> Output:
    """Write an alert with CloudEvents headers, which name nobody."""
    at = datetime.fromtimestamp(alert.measured_at / 1e6, UTC).isoformat()
    headers = {
        "ce_specversion": "1.0",
        "ce_id": alert_event_id(alert),
        "ce_source": "/vigil/scoring",
        "ce_type": "vigil.alert.v1",
        "ce_time": at,
        "content-type": "application/avro",
    }
    named = tuple((name, text.encode()) for name, text in headers.items())
    return Output(ALERTS, alert.pseudonym, value, partition, named)


def dead_letter(record: Record, refusal: Refusal) -> DeadLetter:
    """Tell of a record that is no event; scoring holds no key, so it keeps the digest alone."""
    value = record.value or b""
    return DeadLetter(
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


def dead_output(value: bytes, dead: DeadLetter) -> Output:
    """Write a dead letter; its key tells where the record stands, which names nobody."""
    return Output(DEAD_LETTERS, f"{dead.topic}/{dead.partition}/{dead.offset}".encode(), value)
