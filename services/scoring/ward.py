"""All patients of a partition: events change them, in order, and what changed is remembered."""

from typing import Final, NamedTuple

from services.core.events import Cause, Disposition, Kind, Stay, Vitals
from services.scoring.history import History
from services.scoring.patients import OPEN, SILENCE, Patient, synthetic_encounter
from services.scoring.readings import (
    CONFLICT,
    DUPLICATE,
    NEW,
    REVISED,
    TOO_LATE,
    UNREVISED,
    UNUSABLE,
)
from services.scoring.slots import Slots
from services.scoring.summary import NEVER

# To look an enum's member up takes longer than most of what is done to an event.
PATIENT, ENCOUNTER, RETRACTION, OBSERVATION = (
    *(Kind.PATIENT, Kind.ENCOUNTER, Kind.RETRACTION, Kind.OBSERVATION),
)
SCORED, IN_ORDER, LATE = Disposition.SCORED, Cause.NONE, Cause.LATE
NOTHING: Final = (Disposition.STATE_ONLY, Cause.NOTHING_CHANGED)


class Applied(NamedTuple):
    """What an event did to its patient.

    Attributes:
        disposition: SCORED means that a score is due.
        cause: why not, or what was special.
        revised_at: when the oldest value that changed or was taken back had been measured, µs.
        ended: whether the encounter of before is over now, and its alert with it.
    """

    disposition: Disposition
    cause: Cause = Cause.NONE
    revised_at: int | None = None
    ended: bool = False


class Ward:
    """Patients by pseudonym, with their slots."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.patients: dict[bytes, Patient] = {}
        self._changed: dict[bytes, None] = {}

    def load(self, pseudonym: bytes, row: bytes | None) -> int:
        """Take a whole row; None deletes the patient. Gives the number that the row includes."""
        self.forget(pseudonym)
        if row is None:
            return 0
        patient = self.patients[pseudonym] = Patient.unpack(row, self.slots)
        return patient.stamp

    def changed(self) -> list[bytes]:
        """Name the patients who changed or were forgotten since the last call."""
        changed, self._changed = self._changed, {}
        return list(changed)

    def touched(self, pseudonym: bytes) -> None:
        """Note that a patient changed outside `apply`, as by the policy."""
        self._changed[pseudonym] = None

    def apply(self, event: Vitals) -> Applied:
        """Let an event change its patient; a tick concerns nobody in particular: not for here."""
        self._changed[event.pseudonym] = None
        patient = self.patients.get(event.pseudonym)
        if patient is None:
            patient = self.patients[event.pseudonym] = Patient(History(self.slots))
        patient.heard_at = max(patient.heard_at, event.received_at)
        if event.kind is PATIENT:
            return self._identify(patient, event)
        if event.kind is ENCOUNTER:
            return self._admit(patient, event)
        return self._measure(patient, event)

    def evict(self, watermark: int) -> list[bytes]:
        """Forget patients of whom nothing can matter any more, and name them."""
        # In an order that does not tell who was heard first: a restart does not know.
        gone = sorted(p for p, of in self.patients.items() if of.forgettable(watermark))
        for pseudonym in gone:
            self.forget(pseudonym)
        return gone

    def forget(self, pseudonym: bytes) -> None:
        """Forget a patient, if there is one of that name."""
        patient = self.patients.pop(pseudonym, None)
        if patient is not None:
            patient.history.end()
            self._changed[pseudonym] = None

    def _identify(self, patient: Patient, event: Vitals) -> Applied:
        if event.demographics is None:
            return Applied(*NOTHING)
        patient.identify(event.demographics)
        return Applied(Disposition.STATE_ONLY)

    def _admit(self, patient: Patient, event: Vitals) -> Applied:
        if event.stay is None or not event.encounter:
            return Applied(*NOTHING)
        moved = event.encounter != patient.encounter
        if moved:
            if event.stay.status not in OPEN or _began_before(event.stay, patient.stay):
                return Applied(*NOTHING)
            patient.enter(event.encounter)
        patient.move(event.stay)
        return Applied(Disposition.STATE_ONLY, ended=moved or patient.discharged)

    def _measure(self, patient: Patient, event: Vitals) -> Applied:
        entering = _encounter_for(patient, event)
        if entering is None:
            return Applied(Disposition.STATE_ONLY, Cause.TOO_LATE)
        moved = entering != patient.encounter
        if moved:
            patient.enter(entering)
        history = patient.history
        head = history.head
        if event.kind is RETRACTION:
            done, revised_at = history.retract(event)
        else:
            done, revised_at = history.put(event)
        disposition, cause = _judge(done, event, head)
        return Applied(disposition, cause, None if revised_at == UNREVISED else revised_at, moved)


def _encounter_for(patient: Patient, event: Vitals) -> bytes | None:
    """Say to which encounter a measurement belongs; None to one that is over, or out of reach."""
    named, now = event.encounter, patient.encounter
    heard_late = event.received_at - event.measured_at > SILENCE
    if heard_late and event.kind is OBSERVATION:
        return None
    if not now:
        return named or synthetic_encounter(event.pseudonym, event.measured_at)
    if named and named != now:
        later = event.measured_at > patient.history.head and named not in patient.former
        return named if later else None
    if not named and event.kind is OBSERVATION and _is_over(patient, event.measured_at):
        return synthetic_encounter(event.pseudonym, event.measured_at)
    return now


def _is_over(patient: Patient, measured_at: int) -> bool:
    """Tell whether a measurement without an encounter is none of the patient's latest one."""
    head, stay = patient.history.head, patient.stay
    if stay is None:
        return head != NEVER and measured_at - head > SILENCE
    ended_at = head if stay.ended_at is None else stay.ended_at
    return patient.discharged and measured_at > ended_at


def _began_before(stay: Stay, other: Stay | None) -> bool:
    if other is None or stay.admitted_at is None or other.admitted_at is None:
        return False
    return stay.admitted_at < other.admitted_at


def _judge(done: int, event: Vitals, head: int) -> tuple[Disposition, Cause]:
    """Say what becomes of an event, from what its readings did."""
    if done & (NEW | REVISED):
        return SCORED, LATE if event.measured_at < head else IN_ORDER
    if done & UNUSABLE or (event.variables and not done):
        return Disposition.ABSTAINED, Cause.UNUSABLE
    if done & CONFLICT:
        return Disposition.CONFLICT, Cause.NONE
    if done == DUPLICATE:
        return Disposition.DUPLICATE, Cause.NONE
    if done & TOO_LATE:
        return Disposition.STATE_ONLY, Cause.TOO_LATE
    return NOTHING
