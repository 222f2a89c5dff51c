"""Rows of what goes down the alert path and of what falls off it; one function per event."""

from operator import attrgetter
from typing import Any, Final

from services.audit.rows.columns import Columns, fixed, must, one_row
from services.core import events
from services.core.events import READING_ID_BYTES

SHA256_BYTES: Final = 32
_SIZES: Final = {"values": 8, "flags": 2, "ids": READING_ID_BYTES, "versions": 8}
_OF_VITALS: Final = (
    *_SIZES,
    "entries",
    "variables",
    "codes",
    "units",
    "devices",
    "source",
    "ingest_id",
    "terminology",
    "measured_at",
    "received_at",
    "accepted_at",
    "raw_partition",
    "raw_offset",
)
_cells_of_vitals: Final = attrgetter(*_OF_VITALS)
NO_ENTRIES: Final = "empty"
"""Fate of the one row of a receipt that lists no entry."""


def vitals(event: events.Vitals) -> Columns:
    """One row."""
    readings = len(event.variables)
    for name, size in _SIZES.items():
        must(len(getattr(event, name)) == size * readings, name)
    for name in ("codes", "units", "devices"):
        must(len(getattr(event, name)) == readings, name)
    must(len(event.entries) == 2 * readings or not readings, "entries")
    must(len(event.entries) >= 2 and len(event.entries) % 2 == 0, "entries")  # noqa: PLR2004 - one uint16
    columns: Columns = dict(zip(_OF_VITALS, zip(_cells_of_vitals(event)), strict=True))
    columns["kind"] = (str(event.kind),)
    columns["pseudonym"] = (fixed(event.pseudonym, "pseudonym"),)
    columns["encounter"] = (fixed(event.encounter, "encounter"),)
    return columns | _person(event)


def patients(event: events.Patient) -> Columns:
    """One row."""
    row: dict[str, Any] = {"updated_at": event.updated_at}
    row |= {n: fixed(getattr(event, n), n) for n in ("pseudonym", "encounter")}
    return one_row(row) | _person(event)


def alerts(event: events.Alert) -> Columns:
    """One row."""
    names = ("alert_id", "prediction_id", "unit", "measured_at", "received_at", "accepted_at")
    more = ("valid_until", "score", "threshold", "cause", "policy_version", "model_digest")
    row: dict[str, Any] = {name: getattr(event, name) for name in (*names, *more)}
    row["step"] = str(event.step)
    row |= {n: fixed(getattr(event, n), n) for n in ("pseudonym", "encounter")}
    row["contribution_features"] = [c.feature for c in event.contributions]
    row["contribution_values"] = [c.value for c in event.contributions]
    row["contributions"] = [c.contribution for c in event.contributions]
    return one_row(row)


def alert_severities(event: events.Alert) -> Columns:
    """One row, with what boards ask of a severity beside it."""
    names = ("alert_id", "severity", "unit", "received_at", "policy_version")
    return one_row({name: getattr(event, name) for name in names} | {"step": str(event.step)})


def receipts(event: events.Receipt) -> Columns:
    """One row per entry; a receipt without entries has one, of the fate NO_ENTRIES."""
    must(len(event.sha256) == SHA256_BYTES, "sha256")
    names = ("ingest_id", "source", "raw_partition", "raw_offset", "received_at", "accepted_at")
    count = max(len(event.entries), 1)
    columns: Columns = {n: [getattr(event, n)] * count for n in (*names, "length", "sha256")}
    columns["entry"] = [e.index for e in event.entries] or [-1]
    columns["fate"] = [str(e.fate) for e in event.entries] or [NO_ENTRIES]
    columns["detail"] = [e.detail for e in event.entries] or [""]
    return columns


def dead_letters(event: events.DeadLetter) -> Columns:
    """One row, without the payload."""
    must(len(event.sha256) == SHA256_BYTES, "sha256")
    names = ("reason", "place", "entry", "source", "received_at", "length", "sha256", "key_epoch")
    row = {name: getattr(event, name) for name in names}
    row |= {f"source_{n}": getattr(event, n) for n in ("topic", "partition", "offset")}
    return one_row(row)


def _person(event: events.Vitals | events.Patient) -> Columns:
    if event.demographics is None and event.stay is None:
        return _NOBODY
    return _known_of(event.demographics or events.Demographics(), event.stay or _NOWHERE)


def _known_of(who: events.Demographics, stay: events.Stay) -> Columns:
    names = ("age", "sex", "race", "ethnicity", "language", "payer")
    place = {name: getattr(stay, name) for name in ("unit", "admitted_at", "ended_at")}
    return one_row({name: getattr(who, name) for name in names} | {"status": stay.status} | place)


_NOWHERE: Final = events.Stay(status="")
_NOBODY: Final = _known_of(events.Demographics(), _NOWHERE)
"""What most events tell of who somebody is: they tell what was measured."""
