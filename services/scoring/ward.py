"""All patients of a partition: events change them, in order, and what changed is remembered."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from services.core.events import Cause, Disposition, Flag, Kind, Vitals
from services.runtime.ports import Row
from services.scoring.history import (
    ANY_VARIABLE,
    KEPT_OUT,
    READING,
    RETRACTED,
    Effect,
    History,
    Readings,
    hour_of,
)
from services.scoring.patients import (
    Patient,
    forgettable,
    silent_for_too_long,
    synthetic_encounter,
)
from services.scoring.slots import Slots

FINISHED: Final = frozenset({"finished", "discharged", "completed", "cancelled"})
CHANGES: Final = frozenset({Effect.APPENDED, Effect.INSERTED, Effect.REVISED})
NO_ENCOUNTER: Final = bytes(16)


class Applied(NamedTuple):
    """What an event did to its patient.

    Attributes:
        disposition: SCORED means that a score is due.
        cause: why not, or what was special.
        revised: something that had been there before changed or was taken back.
        ended: the unit and encounter that are over now, whose alert ends with them.
    """

    disposition: Disposition
    cause: Cause = Cause.NONE
    revised: bool = False
    ended: tuple[str, bytes] | None = None


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
        match event.kind:
            case Kind.PATIENT:
                return self._identify(event)
            case Kind.ENCOUNTER:
                return self._admit(event)
            case _:
                return self._measure(event)

    def slot_of(self, patient: Patient) -> int:
        """Give the patient's slot; after a restart it is filled from the readings first."""
        if patient.slot is None:
            patient.slot = self.slots.take()
            age, sex = patient.person()
            self.slots.identify(patient.slot, age=age, sex=sex)
            if patient.history is not None:
                known = set(patient.history.rows["variable"].tolist()) - {ANY_VARIABLE}
                for variable in known | set(np.flatnonzero(patient.past.hours).tolist()):
                    self.slots.rebuild(patient.slot, variable, patient.history, patient.past)
        return patient.slot

    def evict(self, watermark: int) -> None:
        """Forget patients of whom nothing can matter any more."""
        gone = [p for p, patient in self.patients.items() if forgettable(patient, watermark)]
        for pseudonym in gone:
            patient = self.patients.pop(pseudonym)
            if patient.slot is not None:
                self.slots.give_back(patient.slot)
            self._changed[pseudonym] = None

    def _patient(self, event: Vitals) -> Patient:
        return self.patients.setdefault(event.pseudonym, Patient(event.encounter))

    def _identify(self, event: Vitals) -> Applied:
        patient = self._patient(event)
        patient.demographics = event.demographics
        if patient.slot is not None:
            age, sex = patient.person()
            self.slots.identify(patient.slot, age=age, sex=sex)
        return Applied(Disposition.STATE_ONLY)

    def _admit(self, event: Vitals) -> Applied:
        patient = self._patient(event)
        over = event.stay is not None and event.stay.status in FINISHED
        same = event.encounter == patient.encounter
        if over and not same:
            return Applied(Disposition.STATE_ONLY, Cause.NOTHING_CHANGED)
        before = (patient.unit, patient.encounter)
        if not same:
            self._restart(patient, event.encounter)
        patient.stay = event.stay
        ended = before if over or not same else None
        return Applied(Disposition.STATE_ONLY, ended=ended)

    def _measure(self, event: Vitals) -> Applied:
        patient = self._patient(event)
        before = (patient.unit, patient.encounter)
        ended = before if self._enter_encounter(patient, event) else None
        if patient.encounter != (event.encounter or patient.encounter):
            return Applied(Disposition.STATE_ONLY, Cause.TOO_LATE)
        readings = readings_of(event)
        if patient.history is None:
            patient.history = History(event.measured_at)
        head = patient.history.head
        effects = [self._take(patient, reading) for reading in readings]
        disposition, cause = _judge(effects, readings, event, head)
        return Applied(disposition, cause, Effect.REVISED in effects, ended)

    def _enter_encounter(self, patient: Patient, event: Vitals) -> bool:
        """Begin the event's encounter if it is another and not an older one; tell if one ended."""
        named = event.encounter
        if not patient.encounter:
            patient.encounter = named or synthetic_encounter(event.pseudonym, event.measured_at)
            return False
        if named == patient.encounter:
            return False
        head = patient.history.head if patient.history else -1
        if named and event.measured_at > head:
            self._restart(patient, named)
            return True
        if not named and patient.stay is None and silent_for_too_long(patient, event.measured_at):
            self._restart(patient, synthetic_encounter(event.pseudonym, event.measured_at))
            return True
        return False

    def _restart(self, patient: Patient, encounter: bytes) -> None:
        """State restarts with the encounter; who the patient is stays known."""
        fresh = Patient(encounter)
        patient.encounter, patient.history, patient.past = encounter, None, fresh.past
        patient.stay = None
        if patient.slot is not None:
            self.slots.clear(patient.slot)

    def _take(self, patient: Patient, reading: Readings) -> Effect:
        history = patient.history
        if history is None:
            raise ValueError("a reading is taken into a history")
        slot, before = self.slot_of(patient), hour_of(history.head)
        gone_error = bool(reading["flags"] & RETRACTED)
        touched = self._variables(history, reading)
        effect = history.retract(reading) if gone_error else history.put(reading)
        if hour_of(history.head) > before:
            self._advance(patient, slot, before)
        if effect is Effect.APPENDED and not reading["flags"] & KEPT_OUT:
            variable, at = int(reading["variable"]), int(reading["at"])
            self.slots.append(slot, variable, at, reading["value"])
        elif effect in (Effect.INSERTED, Effect.REVISED):
            for variable in touched:
                self.slots.rebuild(slot, variable, history, patient.past)
        return effect

    def _variables(self, history: History, reading: Readings) -> set[int]:
        """Which variables a reading can change."""
        if reading["variable"] != ANY_VARIABLE:
            return {int(reading["variable"])}
        same = history.rows["variable"][history.rows["id"] == reading["id"]]
        return set(same.tolist()) - {ANY_VARIABLE}

    def _advance(self, patient: Patient, slot: int, before: int) -> None:
        history = patient.history
        if history is None:
            return
        self.slots.advance(slot, before, hour_of(history.head))
        gone = history.evict()
        gone = gone[gone["flags"] & KEPT_OUT == 0]
        for variable in np.unique(gone["variable"]):
            of_it = gone[gone["variable"] == variable]
            order = np.lexsort((of_it["id"], of_it["at"]))
            patient.past.fold(np.take(of_it, order), int(variable))


def readings_of(event: Vitals) -> Readings:
    """Unpack an event's columns to rows of dtype READING; a retraction's carry RETRACTED."""
    rows = np.empty(len(event.variables), READING)
    rows["at"] = event.measured_at
    rows["id"] = np.frombuffer(event.ids, "<u8")
    rows["version"] = np.frombuffer(event.versions, "<i8")
    rows["value"] = np.frombuffer(event.values, "<f8")
    rows["flags"] = np.frombuffer(event.flags, "<u2")
    rows["variable"] = np.frombuffer(event.variables, "u1")
    if event.kind is Kind.RETRACTION:
        rows["flags"] |= RETRACTED
    rows["flags"][np.isnan(rows["value"])] |= int(Flag.ABSENT)
    return rows


def _judge(
    effects: list[Effect], readings: Readings, event: Vitals, head: int
) -> tuple[Disposition, Cause]:
    """Say what becomes of an event, from what its readings did."""
    if Effect.REVISED in effects:
        return Disposition.SCORED, _lateness(event, head)
    if CHANGES.isdisjoint(effects):
        return _unchanged(effects)
    new = [r for r, effect in zip(readings, effects, strict=True) if effect in CHANGES]
    if all(reading["flags"] & KEPT_OUT for reading in new):
        return Disposition.ABSTAINED, Cause.UNUSABLE
    return Disposition.SCORED, _lateness(event, head)


def _lateness(event: Vitals, head: int) -> Cause:
    return Cause.LATE if event.measured_at < head else Cause.NONE


def _unchanged(effects: list[Effect]) -> tuple[Disposition, Cause]:
    if Effect.CONFLICT in effects:
        return Disposition.CONFLICT, Cause.NONE
    if effects and all(effect is Effect.DUPLICATE for effect in effects):
        return Disposition.DUPLICATE, Cause.NONE
    late = Effect.TOO_LATE in effects
    return Disposition.STATE_ONLY, Cause.TOO_LATE if late else Cause.NOTHING_CHANGED
