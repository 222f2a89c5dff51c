"""Rows of what is said of the model's work: answers, outcomes, labels, measurements, signals."""

import hashlib
from operator import attrgetter
from typing import Any, Final

from services.audit.rows.columns import Columns, fields, fixed, must, one_row
from services.core import events
from services.core.cohorts import DIMENSIONS, UNKNOWN

HELD_BEFORE: Final = ("above", "raised", "first_alert", "label", "final", "onset")
"""What a label's row also says of the revision before it: what windows count."""
_LABEL: Final = events.HourLabel.__struct_fields__
_NO_LABEL: Final = dict.fromkeys(_LABEL)
_NO_BEFORE: Final = {f"before_{name}": None for name in HELD_BEFORE}
_cells_of_label: Final = attrgetter(*_LABEL)


def feedback(event: events.Feedback) -> Columns:
    """One row; what was done stands in two columns of equal length."""
    done = {
        "action_kinds": [action.kind for action in event.actions],
        "action_times": [action.at for action in event.actions],
    }
    return one_row(fields(event, "actions") | done)


def outcomes(event: events.Outcome) -> Columns:
    """One row; a source's progress has zeros for names."""
    return one_row(fields(event) | _names(event))


def labels(event: events.Labelled) -> Columns:
    """One row: the label as it is now, null where the hour is no longer one of its encounter."""
    must(len(event.cohorts) == len(event.cohort_dimensions), "cohorts")
    row = fields(event, "now", "before", "cohort_dimensions", "cohorts") | _names(event)
    row |= _NO_LABEL if event.now is None else zip(_LABEL, _cells_of_label(event.now), strict=True)
    row |= _NO_BEFORE if event.before is None else _before(event.before)
    cohorts = dict(zip(event.cohort_dimensions, event.cohorts, strict=True))
    return one_row(row | {name: cohorts.get(name, UNKNOWN) for name in DIMENSIONS})


def measurements(event: events.Measurement) -> Columns:
    """One row."""
    return one_row(fields(event))


def signals(event: events.Signal) -> Columns:
    """One row; the evidence stands in two columns of equal length."""
    evidence = {
        "evidence_names": [fact.name for fact in event.evidence],
        "evidence_values": [fact.value for fact in event.evidence],
    }
    return one_row(fields(event, "evidence") | evidence)


def changes(event: events.Change) -> Columns:
    """One row, with length and hash of the content; the ledger holds its bytes."""
    content = {
        "content_length": len(event.content),
        "content_sha256": hashlib.sha256(event.content).digest(),
    }
    return one_row(fields(event, "content") | content)


def _before(label: events.HourBefore) -> dict[str, Any]:
    return {f"before_{name}": getattr(label, name) for name in HELD_BEFORE}


def _names(event: events.Outcome | events.Labelled) -> dict[str, Any]:
    return {name: fixed(getattr(event, name), name) for name in ("pseudonym", "encounter")}
