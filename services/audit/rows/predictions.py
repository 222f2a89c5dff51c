"""Rows of a batch of predictions: one per entry, which is one offset of vitals.v1."""

import hashlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.audit.rows.columns import Columns, must
from services.core import events
from services.core.cohorts import DIMENSIONS, UNKNOWN
from services.core.events import PSEUDONYM_BYTES

_KINDS: Final = [str(kind) for kind in events.Kind]
_DISPOSITIONS: Final = [d.name.lower() for d in events.Disposition]
_CAUSES: Final = [c.name.lower() for c in events.Cause]
_DECISIONS: Final = [d.name.lower() for d in events.Decision]


def predictions(event: events.PredictionBatch) -> Columns:
    """One row per entry, which is one offset of vitals.v1."""
    count = event.entries
    must(count >= 1, "entries")
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
    columns["suspects"] = (
        _numbers(event, "suspects", "<u2", count).tolist() if event.suspects else [0] * count
    )
    columns["decision"] = _words(event, "decisions", _DECISIONS)
    columns["score"] = _nullable(_numbers(event, "scores", "<f4", count))
    columns["threshold"] = _nullable(_numbers(event, "thresholds", "<f4", count))
    return columns | _measured(event) | _features(event) | _cohorts(event)


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
    must(len(event.values) == (int(ends[-1]) if len(ends) else 0), "values")
    return {"bitmap": bitmaps.tolist(), "measured": _pieces(event.values, ends)}


def _features(event: events.PredictionBatch) -> Columns:
    dispositions = _numbers(event, "dispositions", "u1", event.entries)
    scored = dispositions == events.Disposition.SCORED
    ends = np.cumsum(scored, dtype=np.int64) * (4 * event.feature_count)
    must(len(event.features) == (int(ends[-1]) if len(ends) else 0), "features")
    features = _pieces(event.features, ends)
    return {
        "features": features,
        "features_sha256": [hashlib.sha256(row).digest() for row in features],
    }


def _cohorts(event: events.PredictionBatch) -> Columns:
    width = len(event.cohort_dimensions)
    codes = _numbers(event, "cohorts", "<u2", event.entries * width)
    must(not len(codes) or int(codes.max()) < len(event.cohort_labels), "cohorts")
    labels = np.array([*event.cohort_labels, UNKNOWN], dtype=object)
    table = codes.reshape(event.entries, width) if width else codes
    found = {name: place for place, name in enumerate(event.cohort_dimensions)}
    unknown = [UNKNOWN] * event.entries
    return {
        name: labels[table[:, found[name]]].tolist() if name in found else unknown
        for name in DIMENSIONS
    }


def _numbers(event: Any, name: str, layout: str, count: int) -> npt.NDArray[Any]:
    data = getattr(event, name)
    must(len(data) == count * np.dtype(layout).itemsize, name)
    return np.frombuffer(data, layout)


def _words(event: events.PredictionBatch, name: str, words: list[str]) -> list[str]:
    codes = _numbers(event, name, "u1", event.entries)
    must(not len(codes) or int(codes.max()) < len(words), name)
    return [words[code] for code in codes.tolist()]


def _nullable(numbers: npt.NDArray[np.float32]) -> list[float | None]:
    return [None if number != number else number for number in numbers.tolist()]  # noqa: PLR0124 - NaN alone differs from itself


def _pieces(data: bytes, ends: npt.NDArray[np.int64]) -> list[bytes]:
    stops = ends.tolist()
    return [data[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def _cut(data: bytes, size: int, count: int, place: str) -> list[bytes]:
    must(len(data) == size * count, place)
    return [data[at : at + size] for at in range(0, len(data), size)]
