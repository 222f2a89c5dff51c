"""One patient as scoring knows them, and the row of the changelog in which that survives."""

import hashlib
import sys
from typing import Final, TypeVar

import msgspec

from services.core.cohorts import UNKNOWN, cohorts_of, known_of
from services.core.events import MICROSECONDS_PER_HOUR, Demographics, Stay
from services.core.features import HISTORY_HOURS
from services.core.policy import FRESH, PolicyState
from services.scoring.patients.form import marked, unmarked
from services.scoring.patients.history import History
from services.scoring.patients.slots import Kept, Slots
from services.scoring.patients.summary import NEVER

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
STAMP_BYTES: Final = 8
FEW_BYTES: Final = 512
"""All but the readings of a patient."""
_ENCODER: Final = msgspec.msgpack.Encoder()
Known = TypeVar("Known", Demographics | None, Stay | None)


class PatientRow(msgspec.Struct, array_like=True):
    """What is written.

    Attributes:
        readings: the history's row (see `packing`); empty where nothing was measured.
    """

    encounter: bytes
    former: tuple[bytes, ...]
    heard_at: int
    demographics: Demographics | None
    stay: Stay | None
    head: int
    readings: bytes
    policy: PolicyState


class Patient:
    """A patient in an encounter: history, who they are, and what the policy remembers.

    `written` is what the changelog knows of the policy.
    """

    __slots__ = (*("_policy", "demographics", "former", "history", "stay", "written"),)

    def __init__(self, history: History) -> None:
        self.former: tuple[bytes, ...] = ()
        self.history = history
        self.demographics: Demographics | None = None
        self.stay: Stay | None = None
        self.policy: PolicyState = FRESH
        self.written = FRESH
        history.join(cohorts_of(None, None))

    @property
    def policy(self) -> PolicyState:
        """What the policy remembers."""
        return self._policy

    @policy.setter
    def policy(self, policy: PolicyState) -> None:
        self._policy = policy
        self.history.wake(wakeful=policy.alert is not None or policy.streak != 0)

    @property
    def cohorts(self) -> tuple[str, ...]:
        """The cohorts the patient is in, in the order of DIMENSIONS."""
        return self.history.cohorts

    @property
    def encounter(self) -> bytes:
        """The pseudonym of the encounter; empty before the first."""
        return self.history.encounter

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
        self.demographics = _with_shared_texts(known_of(self.demographics, demographics))
        age, sex = self.person()
        self.history.identify(age=age, sex=sex)
        self.history.join(cohorts_of(self.demographics, self.stay))

    def move(self, stay: Stay | None) -> None:
        """Learn where the patient is."""
        self.stay = _with_shared_texts(stay)
        if stay is not None:
            self.history.stay(over=self.discharged)
        self.history.join(cohorts_of(self.demographics, self.stay))

    def enter(self, encounter: bytes) -> None:
        """Begin an encounter: all but who the patient is restarts; the policy is the caller's."""
        if self.encounter:
            self.former = (*self.former, self.encounter)[-FORMER:]
        self.former = tuple(each for each in self.former if each != encounter)
        self.history.begin(encounter)
        self.move(None)

    def forgettable(self, watermark: int) -> bool:
        """Tell whether nothing of the patient can matter any more."""
        if self.policy.alert is not None:
            return False
        if self.history.head == NEVER:
            return self.history.heard_at < watermark - FORGET_UNMEASURED_AFTER
        return self.history.head < watermark - FORGET_AFTER

    def whole(self, stamp: int, kept: Kept) -> bytes:
        """Write the patient as a row of the changelog, which includes all up to a leaf."""
        self.history.stamp, self.written = stamp, self.policy
        row = bytearray(FEW_BYTES + len(kept.readings))  # which is then mostly long enough
        begin = marked(stamp.to_bytes(STAMP_BYTES, "little"))
        row[: len(begin)] = begin
        _ENCODER.encode_into(self._row(kept), row, len(begin))
        return bytes(row)

    def pack(self, kept: Kept) -> bytes:
        """Write all that is known of the patient; the same bytes whatever was restarted.

        Args:
            kept: in the history's slot.
        """
        return _ENCODER.encode(self._row(kept))

    def _row(self, kept: Kept) -> PatientRow:
        readings, head, heard_at, encounter = kept
        return PatientRow(
            encounter,
            self.former,
            heard_at,
            self.demographics,
            self.stay,
            head,
            readings,
            self.policy,
        )

    @classmethod
    def unpack(cls, data: bytes, name: bytes, slots: Slots) -> "Patient":
        """Read a row of the changelog.

        Raises:
            Stop: it is of another form.
        """
        data = unmarked(data)
        row = msgspec.msgpack.decode(data[STAMP_BYTES:], type=PatientRow)
        patient = cls(History(slots, name))
        patient.former = row.former
        patient.history.begin(row.encounter)
        patient.history.hear(row.heard_at)
        patient.history.stamp = int.from_bytes(data[:STAMP_BYTES], "little")
        patient.policy = patient.written = FRESH if row.policy == FRESH else row.policy
        patient.move(row.stay)
        patient.identify(row.demographics)
        patient.history.fill(row.head, row.readings)
        return patient


def synthetic_encounter(pseudonym: bytes, measured_at: int) -> bytes:
    """Name an encounter that the sender did not name, from its first measurement."""
    at = measured_at.to_bytes(8, "big", signed=True)
    return hashlib.sha256(pseudonym + at).digest()[:16]


def _with_shared_texts(told: Known) -> Known:
    """Give the same; a text that a thousand patients have is kept once."""
    if told is None:
        return told
    fields = msgspec.structs.asdict(told)
    texts = {name: sys.intern(text) for name, text in fields.items() if isinstance(text, str)}
    return msgspec.structs.replace(told, **texts)
