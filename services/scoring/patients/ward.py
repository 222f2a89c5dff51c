"""All patients of a partition: events change them, in order, and what changed is remembered."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.errors import Refusal
from services.core.events import PSEUDONYM_BYTES, Cause, Disposition, Kind, Stay, Vitals
from services.scoring.patients.history import (
    DID,
    DONE,
    FULL,
    SILENCE,
    STRANGE,
    History,
    Measurements,
    follow,
)
from services.scoring.patients.message import NAMED, READINGS, Messages
from services.scoring.patients.patient import OPEN, Patient, marked_with, synthetic_encounter
from services.scoring.patients.readings import (
    BEHIND,
    CONFLICT,
    DUPLICATE,
    NEW,
    REVISED,
    TOO_LATE,
    UNHEARD_OF,
    UNREVISED,
    UNUSABLE,
)
from services.scoring.patients.sheet import NONE
from services.scoring.patients.slots import Slots
from services.scoring.patients.summary import NEVER
from services.scoring.patients.suspicion import JUMPED

# To look an enum's member up takes longer than most of what is done to an event.
PATIENT, ENCOUNTER, OBSERVATION = Kind.PATIENT, Kind.ENCOUNTER, Kind.OBSERVATION
SCORED: Final = Disposition.SCORED
NOTHING: Final = (Disposition.STATE_ONLY, Cause.NOTHING_CHANGED)


class Applied(NamedTuple):
    """What an event did to its patient.

    Attributes:
        disposition: SCORED means that a score is due.
        cause: why not, or what was special.
        revised_at: when the oldest value that changed or was taken back had been measured, µs.
        ended: whether the encounter of before is over now, and its alert with it.
        head: the newest measured_at after it, µs; NEVER where nothing was measured.
        row: its place among the rows of features; NONE without.
        suspect: which of its values are, see `suspicion`.
    """

    disposition: Disposition
    cause: Cause = Cause.NONE
    revised_at: int | None = None
    ended: bool = False
    head: int = NEVER
    row: int = NONE
    suspect: int = 0


UNTOUCHED: Final = Applied(Disposition.STATE_ONLY)
"""What concerns no patient does."""
ABSENT: Final = bytes(PSEUDONYM_BYTES)
Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


class Followed(NamedTuple):
    """What N messages did to their patients.

    Attributes:
        done: (N, DONE), see `history`; of what is met only what is no judgement.
        met: what those did that are no measurements of an encounter that goes on, by place.
        stays: encounter of the patient, of those that name none, by place.
        slots: (N,) of the patients, NONE of nobody.
        groups: the cohorts that `done` tells by number.
    """

    done: Numbers
    met: dict[int, Applied]
    stays: Mapping[int, bytes]
    slots: Numbers
    groups: Sequence[tuple[str, ...]]


class Ward:
    """Patients by pseudonym, with their slots.

    `conflicts` are the places, among the messages that `follow` took last, of those with a reading
    whose version came before with another value.
    """

    def __init__(self) -> None:
        self.conflicts: list[int] = []
        self.slots = Slots()
        self.patients: dict[bytes, Patient] = {}
        self._changed: list[bytes] = []
        self._touched: set[bytes] = set()
        self._did = 0  # of the measurement that `apply` took last

    def load(self, pseudonym: bytes, row: bytes | None) -> int:
        """Take a whole row; None deletes the patient. Gives the number that the row includes."""
        self.forget(pseudonym)
        if row is None:
            return 0
        patient = self.patients[pseudonym] = Patient.unpack(row, pseudonym, self.slots)
        return patient.history.stamp

    def changed(self) -> list[bytes]:
        """Name those who were touched or forgotten since the last call.

        They are in the order in which something first happened to them, be it a measurement.
        """
        changed, self._changed = self._changed, []
        touched, self._touched = self._touched, set()
        return list(dict.fromkeys(name for name in changed if name in touched))

    def touched(self, pseudonym: bytes) -> None:
        """Note that a patient may have changed outside `apply`, as by the policy."""
        self._changed.append(pseudonym)
        self._touched.add(pseudonym)

    def apply(self, event: Vitals) -> Applied:
        """Let an event change its patient; a tick concerns nobody in particular: not for here."""
        self._changed.append(event.pseudonym)
        patient = self.patients.get(event.pseudonym)
        if patient is None:
            history = History(self.slots, event.pseudonym)
            patient = self.patients[event.pseudonym] = Patient(history)
        patient.history.hear(event.received_at)
        if event.kind is PATIENT:
            applied = self._identify(patient, event)
        elif event.kind is ENCOUNTER:
            applied = self._admit(patient, event)
        else:
            applied = self._measure(patient, event)
        return applied._replace(head=patient.history.head)

    def follow(self, messages: Messages, rows: Floats) -> Followed:
        """Let messages change their patients in order; what `apply` does, run by run.

        Args:
            messages: refusals and ticks among them are UNTOUCHED.
            rows: (M, len(FEATURES)) float32: features of those that are SCORED are written into
                its rows, in order; none are where M is 0, else M is enough.
        """
        slots = np.empty(len(messages), np.int64)
        done = np.empty((len(messages), DONE), np.int64)
        met, stays = dict[int, Applied](), dict[int, bytes]()
        unnamed = np.flatnonzero(messages.fields[:, NAMED] == 0).tolist()
        told, start, taken = np.frombuffer(messages.told, np.uint8), 0, 0
        these = Measurements(told, messages.fields, slots, done)
        while start < len(messages):
            end, taken, why = follow(self.slots.store, self.slots.sheet, these, rows, start, taken)
            self._changed += messages.names[start:end]
            for place in unnamed:
                if start <= place < end:
                    stays[place] = self.patients[messages.names[place]].encounter
            start = end
            if why == FULL:
                self.slots.make_room(int(slots[end]), int(messages.fields[end, READINGS]))
            elif why == STRANGE:
                self._did = 0
                event = messages.event(end)
                applied = met[end] = self._meet(event, rows, taken)
                done[end] = self._as_done(applied, messages.names[end], slots[end:])
                if not isinstance(event, Refusal) and not messages.fields[end, NAMED]:
                    stays[end] = event.encounter or self._encounter(event.pseudonym)
                taken += applied.row != NONE
                start += 1
        self.conflicts = np.flatnonzero(done[:, DID] & CONFLICT).tolist()
        return Followed(done, met, stays, slots, self.slots.groups.names)

    def _as_done(self, applied: Applied, name: bytes, slots: Numbers) -> tuple[int, ...]:
        """Tell what was met as the numbers of a measurement, and note the slot of its patient."""
        patient, revised_at = self.patients.get(name), applied.revised_at
        group = over = 0
        if patient is not None:
            slots[0] = patient.history.slot
            group, over = self.slots.store.group[slots[0]], patient.discharged
        revised_at = UNREVISED if revised_at is None else revised_at
        return self._did, revised_at, applied.head, applied.row, applied.suspect, group, over

    def _encounter(self, name: bytes) -> bytes:
        patient = self.patients.get(name)
        return (patient.encounter if patient else b"") or ABSENT

    def _meet(self, event: Vitals | Refusal, rows: Floats, taken: int) -> Applied:
        """Let a message change its patient that is no measurement of an encounter that goes on."""
        if isinstance(event, Refusal) or not event.pseudonym:
            return UNTOUCHED
        applied = self.apply(event)
        if applied.disposition is not SCORED or not len(rows):
            return applied
        suspect = self.patients[event.pseudonym].history.write_features(rows[taken], event)
        cause = _suspected(applied.cause, suspect) if suspect else applied.cause
        return applied._replace(cause=cause, row=taken, suspect=suspect)

    def pack(self, names: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Write all that is known of patients; the same bytes whatever was restarted."""
        for name, kept in zip(names, self.slots.kept(self.slots.of(names)), strict=True):
            yield name, b"".join(self.patients[name].pack(kept))

    def whole(self, names: Sequence[bytes], stamp: int) -> Iterator[tuple[bytes, bytes]]:
        """Write patients as rows of the changelog, which include all up to a leaf."""
        begin, slots = marked_with(stamp), self.slots.of(names)
        self.slots.store.stamp[slots] = stamp
        for name, kept in zip(names, self.slots.kept(slots), strict=True):
            patient = self.patients[name]
            patient.written = patient.policy
            yield name, b"".join((begin, *patient.pack(kept)))

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
            self.touched(pseudonym)

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
        did, revised_at = patient.history.measure(event)
        self._did = did
        disposition, cause = judge(did)
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


def _suspected(cause: Cause, suspect: int) -> Cause:
    """Say what is special about a score on suspect values; that it is late says more."""
    if cause is not Cause.NONE:
        return cause
    return Cause.SUSPECT_DELTA if suspect & JUMPED else Cause.SUSPECT_FLAT


def judge(did: int) -> tuple[Disposition, Cause]:
    """Say what becomes of an event, from what its readings did."""
    behind, did = did & BEHIND, did & ~BEHIND
    if did & (NEW | REVISED):
        return SCORED, Cause.LATE if behind else Cause.NONE
    if did & (UNUSABLE | UNHEARD_OF):
        return Disposition.ABSTAINED, Cause.UNUSABLE
    if did & CONFLICT:
        return Disposition.CONFLICT, Cause.NONE
    if did == DUPLICATE:
        return Disposition.DUPLICATE, Cause.NONE
    if did & TOO_LATE:
        return Disposition.STATE_ONLY, Cause.TOO_LATE
    return NOTHING
