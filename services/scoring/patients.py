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
from services.scoring.history import History
from services.scoring.summary import CELLS, NEVER, READING, Readings, Summary

SILENCE: Final = 24 * MICROSECONDS_PER_HOUR
"""An encounter that nobody named ends after so long without a measurement."""
FORGET_AFTER: Final = 2 * HISTORY_HOURS * MICROSECONDS_PER_HOUR
"""How long after the last measurement a patient is forgotten."""
FORGET_UNMEASURED_AFTER: Final = 30 * 24 * MICROSECONDS_PER_HOUR
"""How long after the last message one is forgotten of whom nothing was ever measured."""
FINISHED: Final = frozenset(
    {"finished", "discharged", "completed", "cancelled", "discontinued", "entered-in-error"}
)
OPEN: Final = frozenset({"arrived", "triaged", "in-progress", "onleave", "on-hold"})
FORMER: Final = 8
"""So many encounters that are over are remembered."""
SEX: Final = {"female": 0.0, "male": 1.0}
LEVEL: Final = 1
_COLUMNS: Final = ("at", "version", "flags", "variable", "value")


class PatientRow(msgspec.Struct, array_like=True):
    """What is written: columns of the readings, and of the past the variables that it knows."""

    encounter: bytes
    former: list[bytes]
    heard_at: int
    demographics: Demographics | None
    stay: Stay | None
    head: int
    ids: bytes  # they do not compress
    readings: bytes
    known: bytes
    past: bytes
    cells: bytes
    policy: PolicyState


class Patient:
    """A patient in an encounter: history, who they are, and what the policy remembers."""

    __slots__ = (
        *("demographics", "encounter", "former", "heard_at", "history", "policy", "slot", "stay"),
    )

    def __init__(self) -> None:
        self.encounter = b""
        self.former: list[bytes] = []
        self.heard_at = NEVER
        self.history = History()
        self.demographics: Demographics | None = None
        self.stay: Stay | None = None
        self.policy: PolicyState = FRESH
        self.slot: int | None = None

    @property
    def unit(self) -> str:
        """The unit the patient is in, or `unknown`."""
        return (self.stay.unit if self.stay else None) or UNKNOWN

    @property
    def discharged(self) -> bool:
        """Whether the encounter is known to be over."""
        return self.stay is not None and self.stay.status in FINISHED

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

    def enter(self, encounter: bytes) -> None:
        """Begin an encounter: all but who the patient is restarts; the policy is the caller's."""
        if self.encounter:
            self.former = [*self.former, self.encounter][-FORMER:]
        self.former = [each for each in self.former if each != encounter]
        self.encounter, self.history, self.stay = encounter, History(), None

    def forgettable(self, watermark: int) -> bool:
        """Tell whether nothing of the patient can matter any more."""
        if self.policy.alert is not None:
            return False
        if self.history.head == NEVER:
            return self.heard_at < watermark - FORGET_UNMEASURED_AFTER
        return self.history.head < watermark - FORGET_AFTER

    def pack(self) -> bytes:
        """Write the patient as a row of the changelog."""
        rows, past = self.history.rows, self.history.past
        known = np.flatnonzero(past.count).astype(np.uint8)
        row = PatientRow(
            encounter=self.encounter,
            former=self.former,
            heard_at=self.heard_at,
            demographics=self.demographics,
            stay=self.stay,
            head=self.history.head,
            ids=rows["id"].tobytes(),
            readings=zlib.compress(b"".join(rows[name].tobytes() for name in _COLUMNS), LEVEL),
            known=known.tobytes(),
            past=b"".join(part[known].tobytes() for part in (past.last_at, past.last, past.count)),
            cells=b"" if past.cells is None else zlib.compress(past.cells.tobytes(), LEVEL),
            policy=self.policy,
        )
        return msgspec.msgpack.encode(row)

    @classmethod
    def unpack(cls, data: bytes) -> "Patient":
        """Read a row of the changelog."""
        row = msgspec.msgpack.decode(data, type=PatientRow)
        patient = cls()
        patient.encounter, patient.former, patient.heard_at = (
            row.encounter,
            row.former,
            row.heard_at,
        )
        patient.demographics, patient.stay, patient.policy = row.demographics, row.stay, row.policy
        patient.history = History(row.head, _rows(row))
        patient.history.past = _past(row)
        return patient


def synthetic_encounter(pseudonym: bytes, measured_at: int) -> bytes:
    """Name an encounter that the sender did not name, from its first measurement."""
    at = measured_at.to_bytes(8, "big", signed=True)
    return hashlib.sha256(pseudonym + at).digest()[:16]


def _rows(row: PatientRow) -> Readings:
    rows = np.zeros(len(row.ids) // 8, READING)
    rows["id"] = np.frombuffer(row.ids, "<u8")
    _fill(rows, _COLUMNS, zlib.decompress(row.readings))
    return rows


def _fill(rows: Readings, names: tuple[str, ...], raw: bytes) -> None:
    start = 0
    for name in names:
        kind: np.dtype[Any] = READING[name]
        rows[name] = np.frombuffer(raw, kind, len(rows), start)
        start += len(rows) * kind.itemsize


def _past(row: PatientRow) -> Summary:
    past, many = Summary.empty(), len(row.known)
    known = np.frombuffer(row.known, np.uint8)
    past.last_at[known] = np.frombuffer(row.past, np.int64, many)
    past.last[known] = np.frombuffer(row.past, np.float32, many, 8 * many)
    past.count[known] = np.frombuffer(row.past, np.int32, many, 12 * many)
    if row.cells:
        cells = np.frombuffer(zlib.decompress(row.cells), np.float32)
        past.cells = cells.reshape(CELLS).copy()
    return past
