"""One patient as scoring knows them, and the row of the changelog in which that survives."""

import hashlib
from typing import Final

import msgspec
import numpy as np

from services.core.cohorts import cohorts_of, known_of
from services.core.events import MICROSECONDS_PER_HOUR, Demographics, Stay
from services.core.features import HISTORY_HOURS
from services.core.policy import FRESH, PolicyState
from services.scoring.patients.form import marked, unmarked
from services.scoring.patients.history import History
from services.scoring.patients.slots import Slots
from services.scoring.patients.store import (
    ENCOUNTER,
    FRONT,
    HEARD,
    LENGTH,
    NEWEST,
    STAYS,
    UNMET,
    WORD_BYTES,
)
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
FRONT_BYTES: Final = FRONT * WORD_BYTES
_ENCODER: Final = msgspec.msgpack.Encoder()


class Person(msgspec.Struct, array_like=True, frozen=True):
    """Who the patient is, and where.

    Attributes:
        former: encounters that are over, the latest last; FORMER at most.
        demographics: as far as they are known.
        stay: of the present encounter; None if nobody told.
    """

    former: tuple[bytes, ...] = ()
    demographics: Demographics | None = None
    stay: Stay | None = None


class Rest(msgspec.Struct, array_like=True):
    """What a row says behind the readings.

    Attributes:
        person: a Person, as it is kept.
        policy: what the policy remembers.
    """

    person: msgspec.Raw
    policy: PolicyState


_PERSON: Final = msgspec.msgpack.Decoder(Person)
_REST: Final = msgspec.msgpack.Decoder(Rest)
_NOBODY: Final = _ENCODER.encode(Person())
_FRESH: Final = _ENCODER.encode(FRESH)
_PAIR: Final = b"\x92"
"""Begins what msgpack has of two: person and policy."""


class Patient:
    """A patient in an encounter: history, who they are, and what the policy remembers.

    `written` is what the changelog knows of the policy. A person is kept as bytes: seldom asked
    for, and written with every row.
    """

    __slots__ = (*("_person", "_policy", "history", "written"),)

    def __init__(self, history: History) -> None:
        self.history = history
        self._person = _NOBODY
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
    def former(self) -> tuple[bytes, ...]:
        """The encounters that are over, the latest last."""
        return self._told().former

    @property
    def stay(self) -> Stay | None:
        """Where the patient is, or was last; None if nobody told."""
        return self._told().stay

    @property
    def discharged(self) -> bool:
        """Whether the encounter is known to be over."""
        return _is_over(self.stay)

    def identify(self, demographics: Demographics | None) -> None:
        """Learn who the patient is."""
        person = self._told()
        known = known_of(person.demographics, demographics)
        self._tell(msgspec.structs.replace(person, demographics=known))

    def move(self, stay: Stay | None) -> None:
        """Learn where the patient is."""
        self._tell(msgspec.structs.replace(self._told(), stay=stay))

    def enter(self, encounter: bytes) -> None:
        """Begin an encounter: all but who the patient is restarts; the policy is the caller's."""
        person = self._told()
        former = (*person.former, self.encounter)[-FORMER:] if self.encounter else person.former
        self.history.begin(encounter)
        others = tuple(each for each in former if each != encounter)
        self._tell(Person(others, person.demographics))

    def _told(self) -> Person:
        return _PERSON.decode(self._person)

    def _tell(self, person: Person) -> None:
        self._person = _ENCODER.encode(person)
        self._note(person)

    def _note(self, person: Person) -> None:
        """Lay out in the slot what the loops ask of a person."""
        age, sex = _as_model(person.demographics)
        self.history.identify(age=age, sex=sex)
        if person.stay is not None:
            self.history.stay(over=_is_over(person.stay))
        self.history.join(cohorts_of(person.demographics, person.stay))

    def forgettable(self, watermark: int) -> bool:
        """Tell whether nothing of the patient can matter any more."""
        if self.policy.alert is not None:
            return False
        if self.history.head == NEVER:
            return self.history.heard_at < watermark - FORGET_UNMEASURED_AFTER
        return self.history.head < watermark - FORGET_AFTER

    def pack(self, kept: memoryview) -> tuple[bytes | memoryview, ...]:
        """Give all that is known of the patient in parts; the same whatever was restarted.

        Args:
            kept: in the history's slot, see `Slots.kept`.
        """
        policy = _FRESH if self.policy is FRESH else _ENCODER.encode(self.policy)
        return kept, _PAIR, self._person, policy

    @classmethod
    def unpack(cls, data: bytes, name: bytes, slots: Slots) -> "Patient":
        """Read a row of the changelog.

        Raises:
            Stop: it is of another form.
        """
        data = unmarked(data)
        front = np.frombuffer(data, np.int64, FRONT, STAMP_BYTES)
        begin = STAMP_BYTES + FRONT_BYTES
        end = begin + int(front[LENGTH])
        rest = _REST.decode(data[end:])
        patient = cls(History(slots, name))
        history = patient.history
        history.begin(b"" if front[STAYS] == UNMET else front[ENCOUNTER:].tobytes())
        history.hear(int(front[HEARD]))
        history.stamp = int.from_bytes(data[:STAMP_BYTES], "little")
        patient.policy = patient.written = FRESH if rest.policy == FRESH else rest.policy
        patient._person = bytes(rest.person)
        patient._note(patient._told())
        history.fill(int(front[NEWEST]), data[begin:end])
        return patient


def marked_with(stamp: int) -> bytes:
    """Give what stands before a patient in a row that includes all up to a leaf."""
    return marked(stamp.to_bytes(STAMP_BYTES, "little"))


def synthetic_encounter(pseudonym: bytes, measured_at: int) -> bytes:
    """Name an encounter that the sender did not name, from its first measurement."""
    at = measured_at.to_bytes(8, "big", signed=True)
    return hashlib.sha256(pseudonym + at).digest()[:16]


def _is_over(stay: Stay | None) -> bool:
    return stay is not None and stay.status in FINISHED


def _as_model(who: Demographics | None) -> tuple[float, float]:
    """Give age in years and sex (0 female, 1 male) as the model takes them; NaN is unknown."""
    if who is None:
        return float("nan"), float("nan")
    age = float("nan") if who.age is None else who.age
    return age, SEX.get(who.sex or "", float("nan"))
