"""One consumed record on its way to a prediction, and the columns that a batch of them becomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from services.core.cohorts import DIMENSIONS
from services.core.events import (
    Cause,
    DeadLetter,
    Decision,
    Disposition,
    Kind,
    PredictionBatch,
    Role,
    Vitals,
    packed,
)
from services.core.vitals import VARIABLES

KIND_NUMBER: Final = {kind: number for number, kind in enumerate(Kind)}
ABSENT_PERSON: Final = bytes(16)
NOBODY: Final = ("",) * len(DIMENSIONS)


@dataclass(slots=True, kw_only=True)
class Entry:
    """What became of one vitals offset; filled in as the batch goes through its phases."""

    offset: int
    event: Vitals | None = None  # None: the record could not be read
    dead: DeadLetter | None = None  # and why
    disposition: Disposition = Disposition.STATE_ONLY
    cause: Cause = Cause.NONE
    encounter: bytes = ABSENT_PERSON
    unit: str = ""
    cohorts: tuple[str, ...] = NOBODY
    as_of: int = 0
    revised_at: int | None = None  # when a value that was revised had been measured, µs
    ended: bool = False  # the encounter of before, and its alert
    discharged: bool = False
    watermark: int | None = None  # of a tick
    snapshot: int = -1
    score: float = float("nan")
    threshold: float = float("nan")
    decision: Decision = Decision.NONE


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch says of its model and policy."""

    name: str
    version: str
    digest: str
    policy_version: str
    role: Role
    vitals_topic_id: str


def batch_of(
    entries: Sequence[Entry],
    features: npt.NDArray[np.float32],
    model: Model,
    *,
    partition: int,
    watermark: int | None,
) -> PredictionBatch:
    """Turn entries into the columns of one message.

    Args:
        entries: 1 to 512, in order of offset.
        features: (S, F), a row per scored entry, in entry order.
        model: what scored them.
        partition: of the vitals topic.
        watermark: after the last entry, µs.
    """
    labels, codes = _cohort_columns(entries)
    bitmaps, values = _measured(entries)
    times = [_times(entry.event) for entry in entries]
    return PredictionBatch(
        vitals_topic_id=model.vitals_topic_id,
        partition=partition,
        model_name=model.name,
        model_version=model.version,
        model_digest=model.digest,
        policy_version=model.policy_version,
        role=model.role,
        watermark=watermark,
        entries=len(entries),
        offsets=packed([e.offset for e in entries], "<i8"),
        kinds=bytes(KIND_NUMBER[e.event.kind] if e.event else 255 for e in entries),
        dispositions=bytes(e.disposition for e in entries),
        causes=bytes(e.cause for e in entries),
        pseudonyms=b"".join(_pseudonym(e.event) for e in entries),
        encounters=b"".join(e.encounter for e in entries),
        measured_at=packed([t[0] for t in times], "<i8"),
        received_at=packed([t[1] for t in times], "<i8"),
        accepted_at=packed([t[2] for t in times], "<i8"),
        as_of=packed([e.as_of for e in entries], "<i8"),
        bitmaps=bitmaps,
        values=values,
        scores=packed([e.score for e in entries], "<f4"),
        thresholds=packed([e.threshold for e in entries], "<f4"),
        decisions=bytes(e.decision for e in entries),
        cohort_dimensions=list(DIMENSIONS),
        cohort_labels=labels,
        cohorts=codes,
        feature_count=features.shape[1],
        features=features.astype("<f4", copy=False).tobytes(),
    )


def _pseudonym(event: Vitals | None) -> bytes:
    return (event.pseudonym if event else b"") or ABSENT_PERSON


def _times(event: Vitals | None) -> tuple[int, int, int]:
    return (event.measured_at, event.received_at, event.accepted_at) if event else (0, 0, 0)


def _cohort_columns(entries: Sequence[Entry]) -> tuple[list[str], bytes]:
    places: dict[str, int] = {}
    rows: dict[tuple[str, ...], bytes] = {}
    for entry in entries:
        if entry.cohorts not in rows:
            codes = [places.setdefault(label, len(places)) for label in entry.cohorts]
            rows[entry.cohorts] = packed(codes, "<u2")
    return list(places), b"".join([rows[entry.cohorts] for entry in entries])


def _measured(entries: Sequence[Entry]) -> tuple[bytes, bytes]:
    """Bitmap per entry of the variables that its event measured, and their values packed.

    Of two of one variable in a message it is the later.
    """
    told = [e.event if e.event and e.event.kind is Kind.OBSERVATION else None for e in entries]
    many = np.array([len(event.variables) if event else 0 for event in told])
    variables = np.frombuffer(b"".join([e.variables for e in told if e]), np.uint8).astype(int)
    values = np.frombuffer(b"".join([e.values for e in told if e]), "<f8")
    table = np.full((len(entries), len(VARIABLES)), np.nan)
    known = (variables < len(VARIABLES)) & ~np.isnan(values)
    rows = np.repeat(np.arange(len(entries)), many)
    table[rows[known], variables[known]] = values[known]
    measured = ~np.isnan(table)
    bits = measured @ (1 << np.arange(len(VARIABLES), dtype=np.uint64))
    return packed(bits, "<u8"), packed(table[measured], "<f8")
