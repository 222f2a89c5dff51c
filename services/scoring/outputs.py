"""Where predictions and alerts are written, and what an alert's envelope says."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from services.core.errors import Refusal
from services.core.events import Alert, DeadLetter, Notice, Vitals, alert_event_id
from services.core.notices import VERSION_CONFLICT
from services.runtime.codec import Codec
from services.runtime.envelope import cloud_event
from services.runtime.ports import Output, Record

VITALS: Final = "vitals.v1"
PREDICTIONS: Final = "predictions.v1"
ALERTS: Final = "alerts.v1"
DEAD_LETTERS: Final = "dlq.v1"
NOTICES: Final = "notices.v1"
CHANGELOG: Final = "scoring-changelog"


def prediction_output(value: bytes, partition: int) -> Output:
    """Write a batch to the partition number of its vitals; it has no key."""
    return Output(PREDICTIONS, None, value, partition)


def alert_output(value: bytes, alert: Alert, partition: int) -> Output:
    """Write an alert with CloudEvents headers, which name nobody."""
    at = datetime.fromtimestamp(alert.measured_at / 1e6, UTC).isoformat()
    headers = cloud_event(alert_event_id(alert), by="scoring", of="vigil.alert.v1", at=at)
    return Output(ALERTS, alert.pseudonym, value, partition, headers)


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


def conflict_notices(codec: Codec, conflicts: Iterable[Vitals]) -> Iterator[Output]:
    """Tell of each source how many messages had a version that came before with another value."""
    by_source: dict[str, list[int]] = {}
    for event in conflicts:
        by_source.setdefault(event.source, []).append(event.received_at)
    for source, times in by_source.items():
        notice = Notice(kind=VERSION_CONFLICT, source=source, at=max(times), count=len(times))
        yield Output(NOTICES, source.encode(), codec.encode(notice))
