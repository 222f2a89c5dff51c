"""From each event to its rows in the tables that people query; one function per event.

A function gives columns of equal length, a row per entry of the event. Packed columns of the event
stay packed (`PACKED`); the tables unpack them when asked. A malformed event is a Refusal.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from services.audit.rows.columns import PACKED, Columns
from services.audit.rows.path import (
    alert_severities,
    alerts,
    dead_letters,
    patients,
    receipts,
    vitals,
)
from services.audit.rows.predictions import predictions
from services.audit.rows.watching import (
    changes,
    feedback,
    labels,
    measurements,
    outcomes,
    signals,
)
from services.core import events

__all__ = [
    "PACKED",
    "TABLES",
    "Columns",
    "Derive",
    "alert_severities",
    "alerts",
    "changes",
    "dead_letters",
    "feedback",
    "labels",
    "measurements",
    "outcomes",
    "patients",
    "predictions",
    "receipts",
    "signals",
    "tables_of",
    "vitals",
]

Derive = Callable[[Any], Columns]
TABLES: Final[Mapping[str, tuple[type[msgspec.Struct], Derive]]] = {
    "vitals": (events.Vitals, vitals),
    "predictions": (events.PredictionBatch, predictions),
    "alerts": (events.Alert, alerts),
    "alert_severities": (events.Alert, alert_severities),
    "receipts": (events.Receipt, receipts),
    "dead_letters": (events.DeadLetter, dead_letters),
    "patients": (events.Patient, patients),
    "feedback": (events.Feedback, feedback),
    "outcomes": (events.Outcome, outcomes),
    "labels": (events.Labelled, labels),
    "measurements": (events.Measurement, measurements),
    "signals": (events.Signal, signals),
    "changes": (events.Change, changes),
}
"""Of each table the event that it is derived from, and the function that gives its rows."""


_BY_EVENT: Final = {
    event: {table: rows_of for table, (of, rows_of) in TABLES.items() if of is event}
    for event, _ in TABLES.values()
}


def tables_of(event: type[msgspec.Struct] | None) -> Mapping[str, Derive]:
    """Give the tables that are derived from an event, with their functions; none of no event."""
    return {} if event is None else _BY_EVENT.get(event, {})
