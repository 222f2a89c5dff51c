"""From each event to its rows in the tables that people query; one function per event.

A function gives columns of equal length, a row per entry of the event. Packed columns of the event
stay packed (`PACKED`); the tables unpack them when asked. A malformed event is a Refusal.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from services.audit.rows.columns import PACKED, Columns
from services.audit.rows.path import alerts, dead_letters, patients, receipts, vitals
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
    "vitals",
]

TABLES: Final[Mapping[type[msgspec.Struct], tuple[str, Callable[[Any], Columns]]]] = {
    events.Vitals: ("vitals", vitals),
    events.PredictionBatch: ("predictions", predictions),
    events.Alert: ("alerts", alerts),
    events.Receipt: ("receipts", receipts),
    events.DeadLetter: ("dead_letters", dead_letters),
    events.Patient: ("patients", patients),
    events.Feedback: ("feedback", feedback),
    events.Outcome: ("outcomes", outcomes),
    events.Labelled: ("labels", labels),
    events.Measurement: ("measurements", measurements),
    events.Signal: ("signals", signals),
    events.Change: ("changes", changes),
}
"""The table of each event, and the function that derives its rows."""
