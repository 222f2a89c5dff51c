"""What one entry of a message says, in the identifiers of its source: it stays in the PHI zone."""

import msgspec

from services.core.events import Demographics, Kind, Stay


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was received, and what the gateway says about it."""

    body: bytes
    source: str
    received_at: int
    accepted_at: int
    ingest_id: str
    partition: int
    offset: int


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One value of one variable, in the model's unit."""

    variable: int
    value: float
    flags: int
    code: str
    unit: str


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """An Observation: its readings, or what takes earlier ones back."""

    kind: Kind
    patient: str
    encounter: str
    measured_at: int
    identifier: str
    """The id at the source; without one the SHA-256 of the entry, in hex."""
    without_id: bool
    version: int
    device: str
    skewed: bool = False
    """Whether its times contradict each other, or a vital sign's came an hour late."""
    readings: list[Reading]


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A Patient."""

    patient: str
    demographics: Demographics


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """An Encounter: where a patient is."""

    patient: str
    encounter: str
    stay: Stay
    place: str = ""
    """The unit's name at the source where it is not made of known words."""


class OutOfScope(msgspec.Struct, frozen=True):
    """Nothing for us; `detail` is a code or a word of FHIR's, fit to be told anywhere."""

    detail: str


class Noted(msgspec.Struct, frozen=True):
    """Read together with the Patient of the same message."""

    patient: str


Finding = Measured | Person | Moved | OutOfScope | Noted
