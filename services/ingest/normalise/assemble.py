"""Findings of one message become events: per patient, encounter and time one, in entry order."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from struct import pack
from typing import Any, Final

from msgspec.structs import replace

from services.core.events import Flag, Kind, Stay, Vitals
from services.core.pseudonyms import (
    device_name,
    encounter_pseudonym,
    patient_pseudonym,
    place_name,
    reading_id,
)
from services.core.vitals import VARIABLE_INDEX
from services.ingest.normalise.findings import (
    Finding,
    Measured,
    Message,
    Moved,
    Noted,
    Person,
    Reading,
)

_SYSTOLIC: Final = VARIABLE_INDEX["SBP"]
_DIASTOLIC: Final = VARIABLE_INDEX["DBP"]

Numbered = tuple[int, Measured]


class Assembler:
    """Makes the events of one message, in the names that leave the PHI zone."""

    def __init__(self, message: Message, key: bytes, terminology_version: str) -> None:
        self._message, self._source, self._key = message, message.source, key
        self._terminology = terminology_version
        self._subjects: dict[str, bytes] = {}

    @cached_property
    def _common(self) -> Mapping[str, Any]:
        message = self._message
        return {
            "source": message.source,
            "received_at": message.received_at,
            "accepted_at": message.accepted_at,
            "ingest_id": message.ingest_id,
            "raw_partition": message.partition,
            "raw_offset": message.offset,
            "terminology": self._terminology,
        }

    @property
    def subjects(self) -> Mapping[str, bytes]:
        """From the id of each patient whose event was made to the pseudonym."""
        return self._subjects

    def tick(self, at: int) -> Vitals:
        """Make the event of a source's clock."""
        return Vitals(kind=Kind.TICK, measured_at=at, entries=pack("<H", 0), **self._common)

    def events(self, findings: Iterable[tuple[int, Finding]]) -> list[Vitals]:
        """Make the events of numbered findings, each where its first entry stands."""
        groups: dict[Any, list[tuple[int, Any]]] = {}
        notes: dict[str, list[int]] = {}
        for index, found in findings:
            group: Any = index
            if isinstance(found, Measured):
                group = (found.kind, found.patient, found.encounter, found.measured_at)
            elif isinstance(found, Noted):
                notes.setdefault(found.patient, []).append(index)
                continue
            groups.setdefault(group, []).append((index, found))
        return [self._event(group, notes) for group in groups.values()]

    def _event(self, group: list[tuple[int, Any]], notes: dict[str, list[int]]) -> Vitals:
        index, first = group[0]
        if isinstance(first, Measured):
            return self._measured(group)
        if isinstance(first, Moved):
            return self._told(first, [index])
        # Each note stands in one event, even where a message tells of the patient twice.
        return self._told(first, [index, *notes.pop(first.patient, [])])

    def _told(self, found: Person | Moved, entries: Sequence[int]) -> Vitals:
        moved = found if isinstance(found, Moved) else None
        return Vitals(
            kind=Kind.ENCOUNTER if moved else Kind.PATIENT,
            pseudonym=self._patient(found.patient),
            encounter=self._encounter(moved.encounter if moved else ""),
            measured_at=self._message.received_at,
            entries=pack(f"<{len(entries)}H", *entries),
            demographics=found.demographics if isinstance(found, Person) else None,
            stay=self._placed(moved) if moved else None,
            **self._common,
        )

    def _placed(self, moved: Moved) -> Stay:
        if not moved.place:
            return moved.stay
        return replace(moved.stay, unit=place_name(self._key, self._source, moved.place))

    def _measured(self, group: Sequence[Numbered]) -> Vitals:
        _, first = group[0]
        rows = [(index, found, reading) for index, found in group for reading in found.readings]
        readings = [reading for _, _, reading in rows]
        devices = {device: self._device(device) for device in {found.device for _, found in group}}
        ids = [self._reading_id(found.identifier) * len(found.readings) for _, found in group]
        many = len(rows)
        return Vitals(
            kind=first.kind,
            pseudonym=self._patient(first.patient),
            encounter=self._encounter(first.encounter),
            measured_at=first.measured_at,
            entries=pack(f"<{many}H", *[index for index, _, _ in rows]),
            variables=bytes([reading.variable for reading in readings]),
            values=pack(f"<{many}d", *[reading.value for reading in readings]),
            flags=pack(f"<{many}H", *_flags(rows, readings)),
            ids=b"".join(ids),
            versions=pack(f"<{many}q", *[found.version for _, found, _ in rows]),
            codes=[reading.code for reading in readings],
            units=[reading.unit for reading in readings],
            devices=[devices[found.device] for _, found, _ in rows],
            **self._common,
        )

    def _patient(self, identifier: str) -> bytes:
        known = patient_pseudonym(self._key, self._source, identifier)
        self._subjects[identifier] = known
        return known

    def _encounter(self, identifier: str) -> bytes:
        return encounter_pseudonym(self._key, self._source, identifier) if identifier else b""

    def _reading_id(self, identifier: str) -> bytes:
        return reading_id(self._key, self._source, identifier)

    def _device(self, reference: str) -> str:
        return device_name(self._key, self._source, reference) if reference else ""


def _flags(
    rows: Sequence[tuple[int, Measured, Reading]], readings: Sequence[Reading]
) -> list[int]:
    flags = [
        reading.flags | Flag.NO_ID if found.without_id else reading.flags
        for _, found, reading in rows
    ]
    variables = {reading.variable for reading in readings}
    if _SYSTOLIC in variables and _DIASTOLIC in variables:
        for place in _inconsistent(readings):
            flags[place] |= Flag.INCONSISTENT
    return flags


def _inconsistent(readings: Sequence[Reading]) -> list[int]:
    """Find the places of systolic pressures below the diastolic of the same order, and of both."""
    high = [
        i for i, r in enumerate(readings) if r.variable == _SYSTOLIC and not math.isnan(r.value)
    ]
    low = [
        i for i, r in enumerate(readings) if r.variable == _DIASTOLIC and not math.isnan(r.value)
    ]
    pairs = [
        p for p in zip(high, low, strict=False) if readings[p[0]].value < readings[p[1]].value
    ]
    return [place for pair in pairs for place in pair]
