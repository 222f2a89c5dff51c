"""The columns of a PredictionBatch as arrays, held to what the fold takes for granted."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.cohorts import UNKNOWN
from services.core.errors import Reason, Refusal
from services.core.events import Cause, Disposition, Kind, PredictionBatch
from services.core.vitals import VARIABLES

TICK: Final = tuple(Kind).index(Kind.TICK)
OBSERVATION: Final = tuple(Kind).index(Kind.OBSERVATION)
FARTHEST: Final = 62_135_596_800_000_000
"""The year 1, and as far the other way, µs."""
_SCORED: Final = int(Disposition.SCORED)  # an enum's member is slow to look up and to compare
_ABSTAINED: Final = int(Disposition.ABSTAINED)
_UNUSABLE: Final = int(Cause.UNUSABLE)
_UNREADABLE: Final = int(Cause.UNREADABLE)
_LARGEST: Final = float(np.finfo(np.float32).max)
_WIDTHS: Final = {
    "offsets": 8,
    "kinds": 1,
    "dispositions": 1,
    "causes": 1,
    "pseudonyms": 16,
    "measured_at": 8,
    "bitmaps": 8,
    "scores": 4,
    "thresholds": 4,
    "decisions": 1,
}


class Columns(NamedTuple):
    """What the fold reads of a batch; n entries.

    Attributes:
        counts: (n,) whether the entry counts at all.
        measures: (n,) whether its values count too.
        scored: (n,) whether it has a score.
        pseudonyms: 16 bytes each.
        measured_at: (n,) µs.
        bitmaps: (n,) bit i: variable i was measured.
        first: (n,) place of the entry's first value in `values`.
        values: one per set bit.
        above: (n,) whether the score reached its threshold.
        decisions: (n,) Decision.
        cohorts: (n, dimensions) places in `labels`.
        labels: names of cohorts.
    """

    counts: NDArray[np.bool_]
    measures: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    pseudonyms: bytes
    measured_at: NDArray[np.int64]
    bitmaps: NDArray[np.uint64]
    first: NDArray[np.int64]
    values: NDArray[np.float64]
    above: NDArray[np.bool_]
    decisions: NDArray[np.uint8]
    cohorts: NDArray[np.uint16]
    labels: list[str]


def columns_of(batch: PredictionBatch, dimensions: Iterable[str]) -> Columns:
    """Read the columns of a batch.

    Args:
        batch: of one partition.
        dimensions: of the cohorts that are asked for; one that the batch does not have is unknown.

    Raises:
        Refusal: a column is too short or too long, or names what does not exist (AVRO_SYNTAX), a
            number is not finite (NUM_NONFINITE) or lies beyond its range (NUM_RANGE).
    """
    for name, width in _WIDTHS.items():
        if len(getattr(batch, name)) != batch.entries * width:
            raise Refusal(Reason.AVRO_SYNTAX, name)
    kinds = np.frombuffer(batch.kinds, np.uint8)
    dispositions = np.frombuffer(batch.dispositions, np.uint8)
    causes = np.frombuffer(batch.causes, np.uint8)
    somebody = kinds != TICK
    scored = (dispositions == _SCORED) & somebody
    usable = (causes != _UNUSABLE) & (causes != _UNREADABLE)
    counts = scored | ((dispositions == _ABSTAINED) & usable & somebody)
    measured_at = np.frombuffer(batch.measured_at, "<i8")
    _in_range(measured_at[counts])
    bitmaps = np.frombuffer(batch.bitmaps, "<u8")
    first, values = _values(batch, bitmaps)
    cohorts, labels = _cohorts(batch, dimensions)
    return Columns(
        counts=counts,
        measures=counts & (kinds == OBSERVATION),
        scored=scored,
        pseudonyms=batch.pseudonyms,
        measured_at=measured_at,
        bitmaps=bitmaps,
        first=first,
        values=values,
        above=_above(batch, scored),
        decisions=np.frombuffer(batch.decisions, np.uint8),
        cohorts=cohorts,
        labels=labels,
    )


def _in_range(measured_at: NDArray[np.int64]) -> None:
    if len(measured_at) and not -FARTHEST <= measured_at.min() <= measured_at.max() <= FARTHEST:
        raise Refusal(Reason.NUM_RANGE, "measured_at")


def _values(
    batch: PredictionBatch, bitmaps: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    many = np.bitwise_count(bitmaps)
    after = np.cumsum(many, dtype=np.int64)
    if len(batch.values) != 8 * (after[-1] if len(after) else 0):
        raise Refusal(Reason.AVRO_SYNTAX, "values")
    values = np.frombuffer(batch.values, "<f8")
    if not np.isfinite(values).all():
        raise Refusal(Reason.NUM_NONFINITE, "values")
    if len(values) and np.abs(values).max() > _LARGEST:
        raise Refusal(Reason.NUM_RANGE, "values")
    if len(bitmaps) and int(bitmaps.max()) >> len(VARIABLES):
        raise Refusal(Reason.AVRO_SYNTAX, "bitmaps")
    return after - many, values


def _above(batch: PredictionBatch, scored: NDArray[np.bool_]) -> NDArray[np.bool_]:
    scores = np.frombuffer(batch.scores, "<f4")[scored]
    thresholds = np.frombuffer(batch.thresholds, "<f4")[scored]
    if not (np.isfinite(scores).all() and np.isfinite(thresholds).all()):
        raise Refusal(Reason.NUM_NONFINITE, "scores")
    above = np.zeros(batch.entries, bool)
    above[scored] = scores >= thresholds
    return above


def _cohorts(
    batch: PredictionBatch, dimensions: Iterable[str]
) -> tuple[NDArray[np.uint16], list[str]]:
    """Codes of the dimensions asked for; the last label is that of a dimension that is missing."""
    present = batch.cohort_dimensions
    if len(batch.cohorts) != 2 * batch.entries * len(present):
        raise Refusal(Reason.AVRO_SYNTAX, "cohorts")
    codes = np.frombuffer(batch.cohorts, "<u2").reshape(batch.entries, len(present))
    labels = [*batch.cohort_labels, UNKNOWN]
    if codes.size and codes.max() >= len(labels) - 1:
        raise Refusal(Reason.AVRO_SYNTAX, "cohorts")
    places = {name: place for place, name in enumerate(present)}
    asked = [places.get(dimension, len(present)) for dimension in dimensions]
    if len(present) in asked:
        missing = np.full((batch.entries, 1), len(labels) - 1, np.uint16)
        codes = np.concatenate([codes, missing], axis=1)
    return codes[:, asked], labels
