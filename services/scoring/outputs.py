"""Where predictions and alerts are written, and what an alert's envelope says."""

from datetime import UTC, datetime
from typing import Final

from services.core.events import Alert
from services.runtime.ports import Output

VITALS: Final = "vitals.v1"
PREDICTIONS: Final = "predictions.v1"
ALERTS: Final = "alerts.v1"
CHANGELOG: Final = "scoring-changelog"


def prediction_output(value: bytes, partition: int) -> Output:
    """Write a batch to the partition number of its vitals; it has no key."""
    return Output(PREDICTIONS, None, value, partition)


def alert_output(value: bytes, alert: Alert, partition: int) -> Output:
    """Write an alert with CloudEvents headers, which name nobody."""
    at = datetime.fromtimestamp(alert.measured_at / 1e6, UTC).isoformat()
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"{alert.alert_id}:{alert.step}",
        "ce_source": "/vigil/scoring",
        "ce_type": "vigil.alert.v1",
        "ce_time": at,
        "content-type": "application/avro",
    }
    named = tuple((name, text.encode()) for name, text in headers.items())
    return Output(ALERTS, alert.pseudonym, value, partition, named)
