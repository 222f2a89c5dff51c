"""One patient as scoring knows them, and the row of the changelog in which that survives."""

import hashlib
import zlib
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from services.core.cohorts import UNKNOWN, cohorts_of
from services.core.events import MICROSECONDS_PER_HOUR, Demographics, Stay
from services.core.features import CELLS, HISTORY_HOURS
from services.core.policy import FRESH, PolicyState
from services.scoring.history import History, Past
from services.scoring.slots import Slots
from services.scoring.summary import NEVER, READING

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
STAMP_BYTES: Final = 8
_COLUMNS: Final = ("at", "version", "flags", "variable", "value")


class PatientRow(msgspec.Struct, array_like=True):
    """What is written.

    Attributes:
        many: so many readings there are.
        ids: of the resources, one where readings that follow each other share it; uncompressed,
            as hashes do not compress.
        known: numbers of the variables that the past knows.
        columns: the other columns of the readings, whether each shares the id of the one before,
            time, value and count of what the past knows, and its hours if it has any.
    """

    encounter: bytes
    former: list[bytes]
    heard_at: int
    demographics: Demographics | None
    stay: Stay | None
    head: int
    many: int
    ids: bytes
    known: bytes
    columns: bytes
    policy: PolicyState


class Patient:
    """A patient in an encounter: history, who they are, and what the policy remembers.

    `stamp` is the number of the last leaf of the journal that the patient's row includes, and
    `written` what the changelog knows of the policy.
    """

    __slots__ = (
        *("cohorts", "demographics", "encounter", "former", "heard_at", "history", "policy"),
        *("stamp", "stay", "written"),
    )

    def __init__(self, history: History) -> None:
        self.encounter = b""
        self.former: list[bytes] = []
        self.heard_at = NEVER
        self.history = history
        self.demographics: Demographics | None = None
        self.stay: Stay | None = None
        self.policy: PolicyState = FRESH
        self.written = FRESH
        self.stamp = 0
        self.cohorts = cohorts_of(None, None)

    @property
    def unit(self) -> str:
        """The unit the patient is in, or `unknown`."""
        return (self.stay.unit if self.stay else None) or UNKNOWN

    @property
    def discharged(self) -> bool:
        """Whether the encounter is known to be over."""
        return self.stay is not None and self.stay.status in FINISHED

    def person(self) -> tuple[float, float]:
        """Age in years and sex (0 female, 1 male) as the model takes them; NaN is unknown."""
        who = self.demographics
        if who is None:
            return float("nan"), float("nan")
        age = float("nan") if who.age is None else who.age
        return age, SEX.get(who.sex or "", float("nan"))

    def identify(self, demographics: Demographics | None) -> None:
        """Learn who the patient is."""
        self.demographics = demographics
        age, sex = self.person()
        self.history.identify(age=age, sex=sex)
        self.cohorts = cohorts_of(self.demographics, self.stay)

    def move(self, stay: Stay | None) -> None:
        """Learn where the patient is."""
        self.stay = stay
        self.cohorts = cohorts_of(self.demographics, self.stay)

    def enter(self, encounter: bytes) -> None:
        """Begin an encounter: all but who the patient is restarts; the policy is the caller's."""
        if self.encounter:
            self.former = [*self.former, self.encounter][-FORMER:]
        self.former = [each for each in self.former if each != encounter]
        self.encounter = encounter
        self.move(None)
        self.history.clear()

    def forgettable(self, watermark: int) -> bool:
        """Tell whether nothing of the patient can matter any more."""
        if self.policy.alert is not None:
            return False
        if self.history.head == NEVER:
            return self.heard_at < watermark - FORGET_UNMEASURED_AFTER
        return self.history.head < watermark - FORGET_AFTER

    def whole(self, stamp: int) -> bytes:
        """Write the patient as a row of the changelog, which includes all up to a leaf."""
        self.stamp, self.written = stamp, self.policy
        return stamp.to_bytes(STAMP_BYTES, "little") + self.pack()

    def pack(self) -> bytes:
        """Write all that is known of the patient; the same bytes whatever was restarted."""
        rows, past = self.history.rows, self.history.past
        shares = np.zeros(len(rows), np.bool)
        shares[1:] = rows["id"][1:] == rows["id"][:-1]
        columns = [rows[name] for name in _COLUMNS]
        columns += [shares, past.last_at, past.last, past.hours]
        if past.cells is not None:
            columns.append(past.cells)
        row = PatientRow(
            encounter=self.encounter,
            former=self.former,
            heard_at=self.heard_at,
            demographics=self.demographics,
            stay=self.stay,
            head=self.history.head,
            many=len(rows),
            ids=rows["id"][~shares].tobytes(),
            known=past.variables.tobytes(),
            columns=zlib.compress(b"".join(column.tobytes() for column in columns), LEVEL),
            policy=self.policy,
        )
        return msgspec.msgpack.encode(row)

    @classmethod
    def unpack(cls, data: bytes, slots: Slots) -> "Patient":
        """Read a row of the changelog."""
        row = msgspec.msgpack.decode(data[STAMP_BYTES:], type=PatientRow)
        patient = cls(History(slots))
        patient.encounter, patient.former = row.encounter, row.former
        patient.heard_at = row.heard_at
        patient.stamp = int.from_bytes(data[:STAMP_BYTES], "little")
        patient.policy, patient.written, patient.stay = row.policy, row.policy, row.stay
        patient.identify(row.demographics)
        _fill(patient.history, row)
        return patient


def synthetic_encounter(pseudonym: bytes, measured_at: int) -> bytes:
    """Name an encounter that the sender did not name, from its first measurement."""
    at = measured_at.to_bytes(8, "big", signed=True)
    return hashlib.sha256(pseudonym + at).digest()[:16]


class _Columns:
    """Columns that follow each other in one run of bytes."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._start = raw, 0

    def take(self, kind: Any, many: int) -> npt.NDArray[Any]:
        """Give the next column of so many numbers."""
        column = np.frombuffer(self._raw, kind, many, self._start)
        self._start += column.nbytes
        return column

    def rest(self) -> bytes:
        """Give what no column took."""
        return self._raw[self._start :]


def _fill(history: History, row: PatientRow) -> None:
    rows, columns = np.zeros(row.many, READING), _Columns(zlib.decompress(row.columns))
    for name in _COLUMNS:
        rows[name] = columns.take(READING[name], row.many)
    shares = columns.take(np.bool, row.many)
    rows["id"] = np.frombuffer(row.ids, "<u8")[np.cumsum(~shares) - 1]
    known = np.frombuffer(row.known, np.uint8)
    last_at, last = columns.take(np.int64, len(known)), columns.take(np.float32, len(known))
    hours, cells = columns.take(np.int32, len(known)), columns.rest()
    past = Past(
        known,
        last_at,
        last,
        hours,
        np.frombuffer(cells, np.float32).reshape(CELLS) if cells else None,
    )
    history.fill(row.head, rows, past)
