"""All patients of a partition: events change them, in order, and what changed is remembered."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from services.core.events import Cause, Disposition, Flag, Kind, Stay, Vitals
from services.core.vitals import VARIABLES
from services.runtime.ports import Row
from services.scoring.history import ANY_VARIABLE, RETRACTED, Change, Effect
from services.scoring.patients import OPEN, SILENCE, Patient, synthetic_encounter
from services.scoring.slots import Slots
from services.scoring.summary import NEVER, READING, Readings, hour_of

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

    def load(self, pseudonym: bytes, row: bytes | None) -> None:
        """Take a row of the changelog; None deletes the patient."""
        if row is None:
            self.patients.pop(pseudonym, None)
        else:
            self.patients[pseudonym] = Patient.unpack(row)

    def changes(self) -> Iterable[Row]:
        """Give the row of each patient that changed since the last call."""
        changed, self._changed = self._changed, {}
        for pseudonym in changed:
            patient = self.patients.get(pseudonym)
            yield pseudonym, patient.pack() if patient else None

    def touched(self, pseudonym: bytes) -> None:
        """Note that a patient changed outside `apply`, as by the policy."""
        self._changed[pseudonym] = None

    def apply(self, event: Vitals) -> Applied:
        """Let an event change its patient; a tick concerns nobody in particular: not for here."""
        self._changed[event.pseudonym] = None
        patient = self.patients.get(event.pseudonym)
        if patient is None:
            patient = self.patients[event.pseudonym] = Patient()
        patient.heard_at = max(patient.heard_at, event.received_at)
        match event.kind:
            case Kind.PATIENT:
                return self._identify(patient, event)
            case Kind.ENCOUNTER:
                return self._admit(patient, event)
            case _:
                return self._measure(patient, event)

    def slot_of(self, patient: Patient) -> int:
        """Give the patient's slot; after a restart it is derived from the history first."""
        if patient.slot is None:
            patient.slot = self.slots.take()
            age, sex = patient.person()
            self.slots.identify(patient.slot, age=age, sex=sex)
            self.slots.derive(patient.slot, patient.history)
        return patient.slot

    def evict(self, watermark: int) -> None:
        """Forget patients of whom nothing can matter any more."""
        # In an order that does not tell who was heard first: a restart does not know.
        for pseudonym in sorted(p for p, of in self.patients.items() if of.forgettable(watermark)):
            patient = self.patients.pop(pseudonym)
            if patient.slot is not None:
                self.slots.give_back(patient.slot)
            self._changed[pseudonym] = None

    def _identify(self, patient: Patient, event: Vitals) -> Applied:
        if event.demographics is None:
            return Applied(*NOTHING)
        patient.demographics = event.demographics
        if patient.slot is not None:
            age, sex = patient.person()
            self.slots.identify(patient.slot, age=age, sex=sex)
        return Applied(Disposition.STATE_ONLY)

    def _admit(self, patient: Patient, event: Vitals) -> Applied:
        if event.stay is None or not event.encounter:
            return Applied(*NOTHING)
        moved = event.encounter != patient.encounter
        if moved:
            if event.stay.status not in OPEN or _began_before(event.stay, patient.stay):
                return Applied(*NOTHING)
            self._enter(patient, event.encounter)
        patient.stay = event.stay
        return Applied(Disposition.STATE_ONLY, ended=moved or patient.discharged)

    def _measure(self, patient: Patient, event: Vitals) -> Applied:
        entering = _encounter_for(patient, event)
        if entering is None:
            return Applied(Disposition.STATE_ONLY, Cause.TOO_LATE)
        moved = entering != patient.encounter
        if moved:
            self._enter(patient, entering)
        history = patient.history
        head = history.head
        if event.kind is Kind.RETRACTION:
            changes = history.retract(_readings(event))
        else:
            readings = _readings(event)
            changes = history.put(readings)
            self._follow(patient, readings, changes, head)
        revised = [change for change in changes if change.effect is Effect.REVISED]
        if revised and patient.slot is not None:
            self.slots.derive(patient.slot, history, {change.variable for change in revised})
        disposition, cause = _judge(changes, event, head)
        revised_at = min((change.was_at for change in revised), default=None)
        return Applied(disposition, cause, revised_at, moved)

    def _follow(
        self, patient: Patient, readings: Readings, changes: list[Change], head: int
    ) -> None:
        """Bring the slot of a patient up to new readings."""
        slot, history = patient.slot, patient.history
        if slot is None:
            return
        self.slots.advance(slot, hour_of(head), hour_of(history.head))
        came = [change.effect is Effect.NEW for change in changes]
        new = readings if all(came) else readings[came]
        variables = set(new["variable"].tolist())
        if not variables:
            return
        if len(variables) == len(new) and self.slots.is_newer(slot, new):
            self.slots.append(slot, new)
        else:
            self.slots.derive(slot, history, variables)

    def _enter(self, patient: Patient, encounter: bytes) -> None:
        patient.enter(encounter)
        if patient.slot is not None:
            self.slots.clear(patient.slot)


def _encounter_for(patient: Patient, event: Vitals) -> bytes | None:
    """Say to which encounter a measurement belongs; None to one that is over, or out of reach."""
    named, now = event.encounter, patient.encounter
    heard_late = event.received_at - event.measured_at > SILENCE
    if heard_late and event.kind is Kind.OBSERVATION:
        return None
    if not now:
        return named or synthetic_encounter(event.pseudonym, event.measured_at)
    if named and named != now:
        later = event.measured_at > patient.history.head and named not in patient.former
        return named if later else None
    if not named and event.kind is Kind.OBSERVATION and _is_over(patient, event.measured_at):
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


def _readings(event: Vitals) -> Readings:
    """Unpack an event's columns to rows of dtype READING.

    Of an observation those of known variables; a retraction's carry RETRACTED.
    """
    rows = np.zeros(len(event.variables), READING)
    rows["at"] = event.measured_at
    rows["id"] = np.frombuffer(event.ids, "<u8")
    rows["version"] = np.frombuffer(event.versions, "<i8")
    rows["flags"] = np.frombuffer(event.flags, "<u2")
    rows["variable"] = variables = np.frombuffer(event.variables, "u1")
    with np.errstate(over="ignore"):
        rows["value"] = np.frombuffer(event.values, "<f8")
    if event.kind is Kind.RETRACTION:
        rows["flags"] |= RETRACTED
        rows["variable"][variables >= len(VARIABLES)] = ANY_VARIABLE
        return rows
    # Nothing in its column says so, and still: what is absent or beyond float32 is no value.
    rows["flags"][~np.isfinite(rows["value"])] |= int(Flag.ABSENT)
    known = variables < len(VARIABLES)
    return rows if known.all() else rows[known]


def _judge(changes: list[Change], event: Vitals, head: int) -> tuple[Disposition, Cause]:
    """Say what becomes of an event, from what its readings did."""
    effects = {change.effect for change in changes}
    if Effect.REVISED in effects or Effect.NEW in effects:
        return Disposition.SCORED, Cause.LATE if event.measured_at < head else Cause.NONE
    if Effect.UNUSABLE in effects or (event.variables and not effects):
        return Disposition.ABSTAINED, Cause.UNUSABLE
    if Effect.CONFLICT in effects:
        return Disposition.CONFLICT, Cause.NONE
    if effects == {Effect.DUPLICATE}:
        return Disposition.DUPLICATE, Cause.NONE
    if Effect.TOO_LATE in effects:
        return Disposition.STATE_ONLY, Cause.TOO_LATE
    return NOTHING
