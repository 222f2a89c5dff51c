"""The columns of PredictionBatches as arrays, held to what the fold takes for granted."""

from collections.abc import Iterable, Sequence
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
    """What the fold reads of batches; n entries in all.

    Attributes:
        source: (n,) place of the entry's batch.
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
        cohorts: (n, dimensions) places among the labels of all batches, one after the other.
        labels: of each batch the names of cohorts.
    """

    source: NDArray[np.intp]
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
    cohorts: NDArray[np.intp]
    labels: list[list[str]]


def columns_of(batches: Sequence[PredictionBatch], dimensions: Iterable[str]) -> Columns:
    """Read the columns of batches, one after the other: for few entries a batch costs as for many.

    Args:
        batches: at least one, of one partition and with the same dimensions of cohorts.
        dimensions: of the cohorts that are asked for; one that the batches lack is unknown.

    Raises:
        Refusal: of some batch a column is too short or too long, or names what does not exist
            (AVRO_SYNTAX), a number is not finite (NUM_NONFINITE) or lies beyond its range
            (NUM_RANGE).
    """
    sizes = [batch.entries for batch in batches]
    joined = {name: _joined(batches, name) for name in _WIDTHS}
    kinds = np.frombuffer(joined["kinds"], np.uint8)
    dispositions = np.frombuffer(joined["dispositions"], np.uint8)
    causes = np.frombuffer(joined["causes"], np.uint8)
    somebody = kinds != TICK
    scored = (dispositions == _SCORED) & somebody
    usable = (causes != _UNUSABLE) & (causes != _UNREADABLE)
    counts = scored | ((dispositions == _ABSTAINED) & usable & somebody)
    measured_at = np.frombuffer(joined["measured_at"], "<i8")
    _in_range(measured_at[counts])
    bitmaps = np.frombuffer(joined["bitmaps"], "<u8")
    first, values = _values(batches, sizes, bitmaps)
    cohorts, labels = _cohorts(batches, sizes, dimensions)
    return Columns(
        source=np.repeat(np.arange(len(sizes)), sizes),
        counts=counts,
        measures=counts & (kinds == OBSERVATION),
        scored=scored,
        pseudonyms=joined["pseudonyms"],
        measured_at=measured_at,
        bitmaps=bitmaps,
        first=first,
        values=values,
        above=_above(joined["scores"], joined["thresholds"], scored),
        decisions=np.frombuffer(joined["decisions"], np.uint8),
        cohorts=cohorts,
        labels=labels,
    )


def _joined(batches: Sequence[PredictionBatch], name: str) -> bytes:
    width = _WIDTHS[name]
    found: list[bytes] = [getattr(batch, name) for batch in batches]
    for batch, column in zip(batches, found, strict=True):
        if len(column) != batch.entries * width:
            raise Refusal(Reason.AVRO_SYNTAX, name)
    return b"".join(found)


def _in_range(measured_at: NDArray[np.int64]) -> None:
    if len(measured_at) and not -FARTHEST <= measured_at.min() <= measured_at.max() <= FARTHEST:
        raise Refusal(Reason.NUM_RANGE, "measured_at")


def _values(
    batches: Sequence[PredictionBatch], sizes: Sequence[int], bitmaps: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    many = np.bitwise_count(bitmaps)
    after = np.zeros(len(many) + 1, np.int64)
    np.cumsum(many, out=after[1:])
    told = np.cumsum([len(batch.values) for batch in batches])
    if (told != 8 * after[np.cumsum(sizes)]).any():
        raise Refusal(Reason.AVRO_SYNTAX, "values")
    values = np.frombuffer(b"".join(batch.values for batch in batches), "<f8")
    if not np.isfinite(values).all():
        raise Refusal(Reason.NUM_NONFINITE, "values")
    if len(values) and np.abs(values).max() > _LARGEST:
        raise Refusal(Reason.NUM_RANGE, "values")
    if len(bitmaps) and int(bitmaps.max()) >> len(VARIABLES):
        raise Refusal(Reason.AVRO_SYNTAX, "bitmaps")
    return after[:-1], values


def _above(
    every_score: bytes, every_threshold: bytes, scored: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    scores = np.frombuffer(every_score, "<f4")[scored]
    thresholds = np.frombuffer(every_threshold, "<f4")[scored]
    if not (np.isfinite(scores).all() and np.isfinite(thresholds).all()):
        raise Refusal(Reason.NUM_NONFINITE, "scores")
    above = np.zeros(len(scored), bool)
    above[scored] = scores >= thresholds
    return above


def _cohorts(
    batches: Sequence[PredictionBatch], sizes: Sequence[int], dimensions: Iterable[str]
) -> tuple[NDArray[np.intp], list[list[str]]]:
    """Codes of the dimensions asked for; a batch's last label is that of a missing dimension."""
    present = batches[0].cohort_dimensions
    for batch in batches:
        if len(batch.cohorts) != 2 * batch.entries * len(present):
            raise Refusal(Reason.AVRO_SYNTAX, "cohorts")
    packed = np.frombuffer(b"".join(batch.cohorts for batch in batches), "<u2")
    codes = packed.reshape(sum(sizes), len(present)).astype(np.intp)
    known = np.array([len(batch.cohort_labels) for batch in batches])
    unknown = np.repeat(known, sizes)[:, None]
    if (codes >= unknown).any():
        raise Refusal(Reason.AVRO_SYNTAX, "cohorts")
    places = {name: place for place, name in enumerate(present)}
    asked = [places.get(dimension, len(present)) for dimension in dimensions]
    if len(present) in asked:
        codes = np.concatenate([codes, unknown], axis=1)
    before = np.repeat(np.cumsum(known + 1) - known - 1, sizes)[:, None]
    return codes[:, asked] + before, [[*batch.cohort_labels, UNKNOWN] for batch in batches]
