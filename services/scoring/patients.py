"""One patient as scoring knows them, and the row of the changelog in which that survives."""

import hashlib
import zlib
from typing import Any, Final

import msgspec
import numpy as np

from services.core.cohorts import UNKNOWN, cohorts_of
from services.core.events import MICROSECONDS_PER_HOUR, Demographics, Stay
from services.core.features import HISTORY_HOURS
from services.core.policy import FRESH, PolicyState
from services.core.vitals import VARIABLES
from services.scoring.history import READING, History, Readings
from services.scoring.slots import Past

SILENCE: Final = 24 * MICROSECONDS_PER_HOUR
"""An encounter that nobody named ends after so long without a measurement."""
SEX: Final = {"female": 0.0, "male": 1.0}
LEVEL: Final = 1  # the ids do not compress, the rest does at once


class PatientRow(msgspec.Struct, array_like=True):
    """What is written; `readings` and `past` are compressed columns."""

    encounter: bytes
    demographics: Demographics | None
    stay: Stay | None
    head: int
    readings: bytes
    past: bytes
    policy: PolicyState


class Patient:
    """A patient in an encounter: readings, past, who they are, and what the policy remembers."""

    __slots__ = ("demographics", "encounter", "history", "past", "policy", "slot", "stay")

    def __init__(self, encounter: bytes, history: History | None = None) -> None:
        self.encounter = encounter
        self.history = history
        self.past = Past()
        self.demographics: Demographics | None = None
        self.stay: Stay | None = None
        self.policy: PolicyState = FRESH
        self.slot: int | None = None

    @property
    def unit(self) -> str:
        """The unit the patient is in, or `unknown`."""
        return (self.stay.unit if self.stay else None) or UNKNOWN

    def cohorts(self) -> tuple[str, ...]:
        """The patient's cohort in every dimension."""
        return cohorts_of(self.demographics, self.stay)

    def person(self) -> tuple[float, float]:
        """Age in years and sex (0 female, 1 male) as the model takes them; NaN is unknown."""
        who = self.demographics
        if who is None:
            return float("nan"), float("nan")
        age = float("nan") if who.age is None else who.age
        return age, SEX.get(who.sex or "", float("nan"))

    def pack(self) -> bytes:
        """Write the patient as a row of the changelog."""
        history = self.history
        row = PatientRow(
            encounter=self.encounter,
            demographics=self.demographics,
            stay=self.stay,
            head=history.head if history else -1,
            readings=_columns(history.rows) if history else b"",
            past=_packed_past(self.past),
            policy=self.policy,
        )
        return msgspec.msgpack.encode(row)

    @classmethod
    def unpack(cls, data: bytes) -> "Patient":
        """Read a row of the changelog."""
        row = msgspec.msgpack.decode(data, type=PatientRow)
        history = History(row.head, _rows(row.readings)) if row.head >= 0 else None
        patient = cls(row.encounter, history)
        patient.demographics, patient.stay, patient.policy = row.demographics, row.stay, row.policy
        patient.past = _unpacked_past(row.past)
        return patient


def synthetic_encounter(pseudonym: bytes, measured_at: int) -> bytes:
    """Name an encounter that the sender did not name, from its first measurement."""
    return hashlib.sha256(pseudonym + measured_at.to_bytes(8, "big")).digest()[:16]


def silent_for_too_long(patient: Patient, measured_at: int) -> bool:
    """Tell whether a measurement comes so late that it begins another encounter."""
    return patient.history is not None and measured_at - patient.history.head > SILENCE


def forgettable(patient: Patient, watermark: int) -> bool:
    """Tell whether nothing of the patient can matter any more."""
    if patient.policy.alert is not None:
        return False
    head = patient.history.head if patient.history else _known_since(patient)
    return head < watermark - 2 * HISTORY_HOURS * MICROSECONDS_PER_HOUR


def _known_since(patient: Patient) -> int:
    """When a patient without readings was admitted; one of whom that is unknown stays."""
    stay = patient.stay
    return stay.admitted_at if stay and stay.admitted_at is not None else 1 << 62


def _columns(rows: Readings) -> bytes:
    return zlib.compress(b"".join(rows[name].tobytes() for name in READING.names or ()), LEVEL)


def _rows(data: bytes) -> Readings:
    raw = zlib.decompress(data)
    rows = np.empty(len(raw) // READING.itemsize, READING)
    start = 0
    for name in READING.names or ():
        kind: np.dtype[Any] = READING[name]
        rows[name] = np.frombuffer(raw, kind, len(rows), start)
        start += len(rows) * kind.itemsize
    return rows


def _packed_past(past: Past) -> bytes:
    if not past.hours.any():
        return b""
    columns = (past.last.tobytes(), past.last_at.tobytes(), past.hours.tobytes())
    return zlib.compress(b"".join(columns), LEVEL)


def _unpacked_past(data: bytes) -> Past:
    past = Past()
    if data:
        raw, size = zlib.decompress(data), len(VARIABLES)
        past.last = np.frombuffer(raw, np.float32, size).copy()
        past.last_at = np.frombuffer(raw, np.int64, size, 4 * size).copy()
        past.hours = np.frombuffer(raw, np.int32, size, 12 * size).copy()
    return past
