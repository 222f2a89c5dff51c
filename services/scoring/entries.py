"""What models and the policy made of vitals offsets, and the message that a batch becomes."""

import struct
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from services.core.cohorts import DIMENSIONS
from services.core.events import (
    DeadLetter,
    Decision,
    Disposition,
    PredictionBatch,
    Role,
    Vitals,
    packed,
)
from services.scoring.columns import Columns

Array = npt.NDArray[Any]
_CODES: Final = f"<{len(DIMENSIONS)}H"
_SCORED: Final = int(Disposition.SCORED)
_INT64, _UINT64, _FLOAT64, _FLOAT32, _UINT16 = map(np.dtype, ("<i8", "<u8", "<f8", "<f4", "<u2"))


class Note(NamedTuple):
    """What few offsets have to say besides.

    Attributes:
        dead: why the record could not be read.
        watermark: after a tick, µs.
        revised_at: when a value that was revised had been measured, µs.
        ended: whether the encounter of before is over, and its alert with it.
        discharged: whether the patient's encounter is over.
    """

    dead: DeadLetter | None = None
    watermark: int | None = None
    revised_at: int | None = None
    ended: bool = False
    discharged: bool = False


QUIET: Final = Note()


@dataclass(slots=True, kw_only=True)
class Entry:
    """An offset that the policy is asked of; it sets threshold and decision."""

    offset: int
    event: Vitals
    note: Note
    disposition: Disposition
    encounter: bytes
    unit: str
    as_of: int
    seat: int  # among those of its model
    score: float
    threshold: float
    decision: Decision = Decision.NONE


class Verdicts(NamedTuple):
    """What a model and its policy made of N entries; filled in as they go through their phases.

    Attributes:
        dispositions: (N,) uint8.
        causes: (N,) uint8.
        scores: (N,) float64 of float32 precision, NaN where not scored.
        thresholds: (N,) the same.
        decisions: (N,) uint8.
    """

    dispositions: Array
    causes: Array
    scores: Array
    thresholds: Array
    decisions: Array

    @classmethod
    def pending(cls, columns: Columns) -> "Verdicts":
        """Begin with what applying the events showed."""
        many = len(columns.offsets)
        return cls(
            dispositions=columns.dispositions.copy(),
            causes=columns.causes.copy(),
            scores=np.full(many, np.nan),
            thresholds=np.full(many, np.nan),
            decisions=np.zeros(many, np.uint8),
        )

    @property
    def scored(self) -> Array:
        """(N,) whether an entry has a score, or is due for one."""
        return np.equal(self.dispositions, _SCORED)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch says of its model and policy."""

    name: str
    version: str
    digest: str
    policy_version: str
    role: Role
    vitals_topic_id: str


def batch_of(
    columns: Columns,
    verdicts: Verdicts,
    features: npt.NDArray[np.float32],
    model: Model,
    *,
    partition: int,
    watermark: int | None,
) -> PredictionBatch:
    """Turn entries into the columns of one message.

    Args:
        columns: 1 to 512, in order of offset.
        verdicts: on each.
        features: (S, F), a row per scored entry, in entry order.
        model: what scored them.
        partition: of the vitals topic.
        watermark: after the last entry, µs.
    """
    labels, codes = _cohort_columns(columns)
    measured_at, received_at, accepted_at = columns.times
    return PredictionBatch(
        vitals_topic_id=model.vitals_topic_id,
        partition=partition,
        model_name=model.name,
        model_version=model.version,
        model_digest=model.digest,
        policy_version=model.policy_version,
        role=model.role,
        watermark=watermark,
        entries=len(columns.offsets),
        offsets=packed(columns.offsets, _INT64),
        kinds=columns.kinds.tobytes(),
        dispositions=verdicts.dispositions.tobytes(),
        causes=verdicts.causes.tobytes(),
        pseudonyms=columns.pseudonyms.tobytes(),
        encounters=columns.encounters.tobytes(),
        measured_at=packed(measured_at, _INT64),
        received_at=packed(received_at, _INT64),
        accepted_at=packed(accepted_at, _INT64),
        as_of=packed(columns.as_of, _INT64),
        bitmaps=packed(columns.bitmaps, _UINT64),
        values=packed(columns.values, _FLOAT64),
        scores=packed(verdicts.scores, _FLOAT32),
        thresholds=packed(verdicts.thresholds, _FLOAT32),
        decisions=verdicts.decisions.tobytes(),
        cohort_dimensions=list(DIMENSIONS),
        cohort_labels=labels,
        cohorts=codes,
        feature_count=features.shape[1],
        features=packed(features, _FLOAT32),
        suspects=packed(columns.suspects, _UINT16) if columns.suspects.any() else b"",
    )


def _cohort_columns(columns: Columns) -> tuple[list[str], bytes]:
    places: dict[str, int] = {}
    groups = columns.groups.tolist()
    of_group = {
        group: struct.pack(
            _CODES, *[places.setdefault(name, len(places)) for name in columns.cohorts[group]]
        )
        for group in dict.fromkeys(groups)
    }
    return list(places), b"".join([of_group[group] for group in groups])
