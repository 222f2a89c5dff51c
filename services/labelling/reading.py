"""What labelling takes for granted of a message, checked before anything is changed by it."""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from services.core.errors import Reason, Refusal
from services.core.events import (
    PSEUDONYM_BYTES,
    Alert,
    Cause,
    Disposition,
    Feedback,
    Kind,
    Outcome,
    PredictionBatch,
)

FARTHEST: Final = 62_135_596_800_000_000
"""The year 1, and as far the other way, µs: no calendar of ours begins before it."""
_OBSERVATION: Final = tuple(Kind).index(Kind.OBSERVATION)
_SCORED: Final = int(Disposition.SCORED)  # an enum's member is slow to look up and to compare
_ABSTAINED: Final = int(Disposition.ABSTAINED)
_UNUSABLE: Final = (int(Cause.UNUSABLE), int(Cause.UNREADABLE))
_WIDTHS: Final = {
    "kinds": 1,
    "dispositions": 1,
    "causes": 1,
    "pseudonyms": PSEUDONYM_BYTES,
    "encounters": PSEUDONYM_BYTES,
    "measured_at": 8,
    "scores": 4,
    "thresholds": 4,
}

Cohorts = tuple[tuple[str, ...], tuple[str, ...]]


class Entry(NamedTuple):
    """An entry of a batch that shows a patient in an encounter.

    Attributes:
        key: encounter and patient.
        measured_at: µs.
        score: with its threshold; None where the model abstained.
        cohorts: dimensions, and a label of each.
    """

    key: bytes
    measured_at: int
    score: tuple[float, float] | None
    cohorts: Cohorts


def entries_of(batch: PredictionBatch) -> list[Entry]:
    """Give the entries that show a patient: scored, or abstained from on a usable observation.

    Raises:
        Refusal: a column has another length (AVRO_SYNTAX), a score is none (NUM_NONFINITE), or a
            time lies beyond every calendar (NUM_RANGE).
    """
    for name, width in _WIDTHS.items():
        if len(getattr(batch, name)) != width * batch.entries:
            raise Refusal(Reason.AVRO_SYNTAX, name)
    _within(batch.watermark, "watermark")
    return list(_entries(batch, _cohorts(batch)))


def _entries(batch: PredictionBatch, cohorts: list[Cohorts]) -> Iterator[Entry]:
    times = np.frombuffer(batch.measured_at, "<i8").tolist()
    scores = np.frombuffer(batch.scores, "<f4").tolist()
    thresholds = np.frombuffer(batch.thresholds, "<f4").tolist()
    columns = zip(batch.dispositions, batch.causes, batch.kinds, strict=True)
    for i, (disposition, cause, kind) in enumerate(columns):
        scored = disposition == _SCORED
        if not scored and not _was_seen(disposition, cause, kind):
            continue
        if scored and not math.isfinite(scores[i] + thresholds[i]):
            raise Refusal(Reason.NUM_NONFINITE, "scores")
        _within(times[i], "measured_at")
        at = slice(PSEUDONYM_BYTES * i, PSEUDONYM_BYTES * (i + 1))
        score = (scores[i], thresholds[i]) if scored else None
        yield Entry(batch.encounters[at] + batch.pseudonyms[at], times[i], score, cohorts[i])


def _was_seen(disposition: int, cause: int, kind: int) -> bool:
    """Tell whether something was measured of which the model said nothing."""
    usable = cause not in _UNUSABLE
    return disposition == _ABSTAINED and kind == _OBSERVATION and usable


def _cohorts(batch: PredictionBatch) -> list[Cohorts]:
    dimensions, names = tuple(batch.cohort_dimensions), batch.cohort_labels
    many = len(dimensions)
    if len(batch.cohorts) != 2 * many * batch.entries:
        raise Refusal(Reason.AVRO_SYNTAX, "cohorts")
    codes = np.frombuffer(batch.cohorts, "<u2").tolist()
    if max(codes, default=-1) >= len(names):
        raise Refusal(Reason.AVRO_SYNTAX, "cohort_labels")
    labels = [names[code] for code in codes]
    return [
        (dimensions, tuple(labels[row * many : (row + 1) * many])) for row in range(batch.entries)
    ]


def check_alert(alert: Alert) -> None:
    """Refuse an alert of nobody (AVRO_SYNTAX) or beyond every calendar (NUM_RANGE)."""
    _names(alert.pseudonym, alert.encounter)
    _within(alert.measured_at, "measured_at")
    _within(alert.received_at, "received_at")


def check_feedback(feedback: Feedback) -> None:
    """Refuse an answer whose times lie beyond every calendar (NUM_RANGE)."""
    _within(feedback.answered_at, "answered_at")
    _within(feedback.received_at, "received_at")
    for place, action in enumerate(feedback.actions):
        _within(action.at, f"actions[{place}].at")


def check_outcome(outcome: Outcome) -> None:
    """Refuse an outcome of nobody that is no progress either, or beyond every calendar."""
    if outcome.pseudonym or outcome.complete_through is None:
        _names(outcome.pseudonym, outcome.encounter)
    for name in ("onset_at", "recognized_at", "treated_at", "complete_through", "received_at"):
        _within(getattr(outcome, name), name)


def _names(pseudonym: bytes, encounter: bytes) -> None:
    if len(pseudonym) != PSEUDONYM_BYTES or len(encounter) != PSEUDONYM_BYTES:
        raise Refusal(Reason.AVRO_SYNTAX, "pseudonym")


def _within(at: int | None, place: str) -> None:
    if at is not None and abs(at) > FARTHEST:
        raise Refusal(Reason.NUM_RANGE, place)
