"""From each event to its rows in the tables that people query; one function per event.

A function gives columns of equal length, a row per entry of the event. Packed columns of the event
stay packed (`PACKED`); the tables unpack them when asked. A malformed event is a Refusal.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from services.core import events
from services.core.cohorts import DIMENSIONS, UNKNOWN
from services.core.errors import Reason, Refusal
from services.core.events import PSEUDONYM_BYTES, READING_ID_BYTES

Columns = dict[str, Sequence[Any]]

SHA256_BYTES: Final = 32
NO_ENTRIES: Final = "empty"
"""Fate of the one row of a receipt that lists no entry."""
PACKED: Final = frozenset(
    {"entries", "variables", "values", "flags", "ids", "versions", "measured", "features"}
)
"""Columns whose Strings are packed numbers and no text."""

_KINDS: Final = [str(kind) for kind in events.Kind]
_DISPOSITIONS: Final = [d.name.lower() for d in events.Disposition]
_CAUSES: Final = [c.name.lower() for c in events.Cause]
_DECISIONS: Final = [d.name.lower() for d in events.Decision]


def vitals(event: events.Vitals) -> Columns:
    """One row."""
    readings = len(event.variables)
    sizes = {"values": 8, "flags": 2, "ids": READING_ID_BYTES, "versions": 8}
    for name, size in sizes.items():
        _must(len(getattr(event, name)) == size * readings, name)
    for name in ("codes", "units", "devices"):
        _must(len(getattr(event, name)) == readings, name)
    _must(len(event.entries) == 2 * readings or not readings, "entries")
    _must(len(event.entries) >= 2 and len(event.entries) % 2 == 0, "entries")  # noqa: PLR2004 - one uint16
    plain = (
        *sizes,
        "entries",
        "variables",
        "codes",
        "units",
        "devices",
        "source",
        "ingest_id",
        "terminology",
    )
    times = ("measured_at", "received_at", "accepted_at", "raw_partition", "raw_offset")
    row: dict[str, Any] = {name: getattr(event, name) for name in (*plain, *times)}
    row["kind"] = str(event.kind)
    row |= {n: _fixed(getattr(event, n), n) for n in ("pseudonym", "encounter")}
    return {name: [value] for name, value in (row | _person(event)).items()}


def patients(event: events.Patient) -> Columns:
    """One row."""
    row: dict[str, Any] = {"updated_at": event.updated_at}
    row |= {n: _fixed(getattr(event, n), n) for n in ("pseudonym", "encounter")}
    return {name: [value] for name, value in (row | _person(event)).items()}


def alerts(event: events.Alert) -> Columns:
    """One row."""
    names = ("alert_id", "prediction_id", "unit", "measured_at", "received_at", "accepted_at")
    more = ("valid_until", "score", "threshold", "cause", "policy_version", "model_digest")
    row: dict[str, Any] = {name: getattr(event, name) for name in (*names, *more)}
    row["step"] = str(event.step)
    row |= {n: _fixed(getattr(event, n), n) for n in ("pseudonym", "encounter")}
    row["contribution_features"] = [c.feature for c in event.contributions]
    row["contribution_values"] = [c.value for c in event.contributions]
    row["contributions"] = [c.contribution for c in event.contributions]
    return {name: [value] for name, value in row.items()}


def receipts(event: events.Receipt) -> Columns:
    """One row per entry; a receipt without entries has one, of the fate NO_ENTRIES."""
    _must(len(event.sha256) == SHA256_BYTES, "sha256")
    names = ("ingest_id", "source", "raw_partition", "raw_offset", "received_at", "accepted_at")
    count = max(len(event.entries), 1)
    columns: Columns = {n: [getattr(event, n)] * count for n in (*names, "length", "sha256")}
    columns["entry"] = [e.index for e in event.entries] or [-1]
    columns["fate"] = [str(e.fate) for e in event.entries] or [NO_ENTRIES]
    columns["detail"] = [e.detail for e in event.entries] or [""]
    return columns


def dead_letters(event: events.DeadLetter) -> Columns:
    """One row, without the payload."""
    _must(len(event.sha256) == SHA256_BYTES, "sha256")
    names = ("reason", "place", "entry", "source", "received_at", "length", "sha256", "key_epoch")
    row = {name: getattr(event, name) for name in names}
    row |= {f"source_{n}": getattr(event, n) for n in ("topic", "partition", "offset")}
    return {name: [value] for name, value in row.items()}


def predictions(event: events.PredictionBatch) -> Columns:
    """One row per entry, which is one offset of vitals.v1."""
    count = event.entries
    _must(count >= 1, "entries")
    offsets = _numbers(event, "offsets", "<i8", count).tolist()
    constant = ("vitals_topic_id", "model_name", "model_version", "model_digest", "policy_version")
    columns: Columns = {name: [getattr(event, name)] * count for name in constant}
    columns |= {"role": [str(event.role)] * count, "watermark": [event.watermark] * count}
    columns |= {"vitals_partition": [event.partition] * count, "vitals_offset": offsets}
    columns["prediction_id"] = _prediction_ids(event, offsets)
    for name, layout in (("pseudonym", "pseudonyms"), ("encounter", "encounters")):
        columns[name] = _cut(getattr(event, layout), PSEUDONYM_BYTES, count, name)
    for name in ("measured_at", "received_at", "accepted_at", "as_of"):
        columns[name] = _numbers(event, name, "<i8", count).tolist()
    columns["kind"] = _words(event, "kinds", _KINDS)
    columns["disposition"] = _words(event, "dispositions", _DISPOSITIONS)
    columns["cause"] = _words(event, "causes", _CAUSES)
    columns["decision"] = _words(event, "decisions", _DECISIONS)
    columns["score"] = _nullable(_numbers(event, "scores", "<f4", count))
    columns["threshold"] = _nullable(_numbers(event, "thresholds", "<f4", count))
    return columns | _measured(event) | _features(event) | _cohorts(event)


TABLES: Final[Mapping[type[msgspec.Struct], tuple[str, Callable[[Any], Columns]]]] = {
    events.Vitals: ("vitals", vitals),
    events.PredictionBatch: ("predictions", predictions),
    events.Alert: ("alerts", alerts),
    events.Receipt: ("receipts", receipts),
    events.DeadLetter: ("dead_letters", dead_letters),
    events.Patient: ("patients", patients),
}
"""The table of each event, and the function that derives its rows."""


def _prediction_ids(event: events.PredictionBatch, offsets: list[int]) -> list[str]:
    # One call for the parts that all entries share; `events.prediction_id` defines the form.
    first = events.prediction_id(
        event.vitals_topic_id, event.partition, 0, digest=event.model_digest
    )
    head, _, tail = first.rpartition("-0@")
    return [f"{head}-{offset}@{tail}" for offset in offsets]


def _measured(event: events.PredictionBatch) -> Columns:
    bitmaps = _numbers(event, "bitmaps", "<u8", event.entries)
    ends = np.cumsum(np.bitwise_count(bitmaps), dtype=np.int64) * 8
    _must(len(event.values) == (int(ends[-1]) if len(ends) else 0), "values")
    return {"bitmap": bitmaps.tolist(), "measured": _pieces(event.values, ends)}


def _features(event: events.PredictionBatch) -> Columns:
    dispositions = _numbers(event, "dispositions", "u1", event.entries)
    scored = dispositions == events.Disposition.SCORED
    ends = np.cumsum(scored, dtype=np.int64) * (4 * event.feature_count)
    _must(len(event.features) == (int(ends[-1]) if len(ends) else 0), "features")
    features = _pieces(event.features, ends)
    return {
        "features": features,
        "features_sha256": [hashlib.sha256(row).digest() for row in features],
    }


def _cohorts(event: events.PredictionBatch) -> Columns:
    width = len(event.cohort_dimensions)
    codes = _numbers(event, "cohorts", "<u2", event.entries * width)
    _must(not len(codes) or int(codes.max()) < len(event.cohort_labels), "cohorts")
    labels = np.array([*event.cohort_labels, UNKNOWN], dtype=object)
    table = codes.reshape(event.entries, width) if width else codes
    found = {name: place for place, name in enumerate(event.cohort_dimensions)}
    unknown = [UNKNOWN] * event.entries
    return {
        name: labels[table[:, found[name]]].tolist() if name in found else unknown
        for name in DIMENSIONS
    }


def _person(event: events.Vitals | events.Patient) -> dict[str, Any]:
    who = event.demographics or events.Demographics()
    stay = event.stay or events.Stay(status="")
    names = ("age", "sex", "race", "ethnicity", "language", "payer")
    place = {name: getattr(stay, name) for name in ("unit", "admitted_at", "ended_at")}
    return {name: getattr(who, name) for name in names} | {"status": stay.status} | place


def _numbers(event: Any, name: str, layout: str, count: int) -> npt.NDArray[Any]:
    data = getattr(event, name)
    _must(len(data) == count * np.dtype(layout).itemsize, name)
    return np.frombuffer(data, layout)


def _words(event: events.PredictionBatch, name: str, words: list[str]) -> list[str]:
    codes = _numbers(event, name, "u1", event.entries)
    _must(not len(codes) or int(codes.max()) < len(words), name)
    return [words[code] for code in codes.tolist()]


def _nullable(numbers: npt.NDArray[np.float32]) -> list[float | None]:
    return [None if number != number else number for number in numbers.tolist()]  # noqa: PLR0124 - NaN alone differs from itself


def _pieces(data: bytes, ends: npt.NDArray[np.int64]) -> list[bytes]:
    stops = ends.tolist()
    return [data[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def _cut(data: bytes, size: int, count: int, place: str) -> list[bytes]:
    _must(len(data) == size * count, place)
    return [data[at : at + size] for at in range(0, len(data), size)]


def _fixed(name: bytes, place: str) -> bytes:
    _must(len(name) in (0, PSEUDONYM_BYTES), place)
    return name or bytes(PSEUDONYM_BYTES)


def _must(holds: bool, place: str) -> None:  # noqa: FBT001 - a condition, not a switch
    if not holds:
        raise Refusal(Reason.AVRO_SYNTAX, place)
