"""A plain Observation of one value, alone in its message, becomes its event in one look.

Nearly all that monitors send is so. What is written is what `normalise` would read, `assemble`
name and `wire` write, byte for byte; whatever is unusual in any way is left to them, and nothing
is refused here. What a ward says again and again is remembered as the bytes that it leads to.
"""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final, TypeVar

import msgspec

from services.core.events import Kind
from services.core.pseudonyms import (
    device_name,
    encounter_pseudonym,
    patient_pseudonym,
    reading_ids,
)
from services.core.terminology.book import Terminology
from services.ingest.normalise import moments
from services.ingest.normalise.findings import Message
from services.ingest.normalise.forms import Plain, alone
from services.ingest.normalise.links import check_id, patient_and_encounter
from services.ingest.normalise.observation import is_skewed, version_of
from services.ingest.normalise.plain import LONGEST, Rule, rule_of
from services.ingest.wire import Wire, arrival, moment
from services.runtime.avro import NONE, blob, number, text, texts

_REMEMBERED: Final = 8192
_pack: Final = Struct("<BHBBBdBHB8sBq").pack
"""The columns of one reading, each with its length before it."""
_ENTRY: Final = 0
"""The number of the only entry."""

K = TypeVar("K")
V = TypeVar("V")


class Kept(dict[K, V]):
    """What was made of short keys; all of it is forgotten rather than too much kept."""

    def __init__(self, make: Callable[[K], V]) -> None:
        """Begin with nothing; `make` gives what belongs to a key."""
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        """Make what is not known yet."""
        if len(self) >= _REMEMBERED:
            self.clear()
        return self.setdefault(key, self._make(key))


class Whose(msgspec.Struct, frozen=True, gc=False):
    """A patient in an encounter, and how every event of theirs begins."""

    identifier: str
    pseudonym: bytes
    begin: bytes


class Meant(msgspec.Struct, frozen=True, gc=False):
    """What numbers mean that come with a code and a unit, and how their events name both."""

    rule: Rule
    named: bytes


class Seen(msgspec.Struct, frozen=True, gc=False):
    """An event as vitals.v1 takes it."""

    whose: Whose
    event: bytes
    message: Sequence[bytes]
    """Name, source, place and times of the message, as a receipt takes them."""
    skewed: bool


class Source:
    """What one source says again and again, as the bytes that it leads to."""

    def __init__(self, name: str, key: bytes, begin: bytes, terminology: str) -> None:
        """Begin with nothing.

        Args:
            name: of the source.
            key: of pseudonyms, 32 bytes.
            begin: with what every event begins.
            terminology: version of the tables.
        """
        self._name, self._key = name, key
        self.text = text(name)
        self._begin, self._end = begin + self.text, NONE + NONE + text(terminology)
        self.reading_id = reading_ids(key, name)
        self.whose = Kept(self._whose)
        """By the references to a patient and an encounter, the latter perhaps empty."""
        self.ends = Kept(self._ends)
        """How events end, by the reference to a device, perhaps empty."""

    def _whose(self, about: tuple[str, str]) -> Whose:
        found = patient_and_encounter(*about)
        if found is None:
            raise ValueError("no patient")
        patient, stay = found
        pseudonym = patient_pseudonym(self._key, self._name, patient)
        where = encounter_pseudonym(self._key, self._name, stay) if stay else b""
        return Whose(patient, pseudonym, self._begin + blob(pseudonym) + blob(where))

    def _ends(self, device: str) -> bytes:
        name = device_name(self._key, self._name, device) if device else ""
        return texts([name]) + self._end


class Glance:
    """Reads messages of which each is one plain Observation."""

    def __init__(self, terminology: Terminology, key: bytes, wire: Wire) -> None:
        """Begin with nothing remembered.

        Args:
            terminology: codes, units and ranges.
            key: of pseudonyms, 32 bytes.
            wire: knows how events begin.
        """
        self._terminology, self._key = terminology, key
        self._begin = wire.begin(Kind.OBSERVATION)
        self._buffer = bytearray()
        self._sources, self._meant = Kept(self._source), Kept(self._means)

    def look(self, message: Message) -> Seen | None:
        """Give the event of a message; None where somebody must look closer."""
        try:
            seen = alone(message.body, self._buffer)
            return self._event(message, seen) if seen else None
        except Exception:  # noqa: BLE001 - the careful look says what it is
            return None

    def _event(self, message: Message, seen: Plain) -> Seen | None:
        own, source, received_at = (
            seen.valueQuantity,
            self._sources[message.source],
            message.received_at,
        )
        if own is None or seen.component:
            return None
        meant = self._meant[bytes(seen.code), bytes(seen.category), own.system, own.code]
        rule, at = meant.rule, moments.instant(seen.effectiveDateTime)
        value, identifier = rule.value(own.value), check_id(seen.id, "id")
        if value is None or at > received_at + moments.FUTURE_US:
            return None
        where = seen.encounter.reference if seen.encounter else ""
        whose = source.whose[seen.subject.reference, where]
        columns = _pack(
            4,
            _ENTRY,
            2,
            rule.variable,
            16,
            value,
            4,
            rule.flags,
            16,
            source.reading_id(identifier),
            16,
            version_of(seen.meta),
        )
        name, came = blob(message.ingest_id.encode()), arrival(received_at, message.accepted_at)
        place = number(message.partition) + number(message.offset)
        end = source.ends[seen.device.reference if seen.device else ""]
        event = b"".join((whose.begin, moment(at), came, name, place, columns, meant.named, end))
        skewed = is_skewed(seen.issued, at, rule.variable, received_at)
        return Seen(whose, event, (name, source.text, place, came), skewed)

    def _source(self, name: str) -> Source:
        return Source(name, self._key, self._begin, self._terminology.version)

    def _means(self, told: tuple[bytes, bytes, str | None, str]) -> Meant:
        code, category, _, _ = told
        if len(code) + len(category) > LONGEST:
            raise ValueError("too long to be remembered")
        rule = rule_of(self._terminology, *told)
        if not isinstance(rule, Rule):
            raise ValueError("not usual")  # noqa: TRY004 - nobody gave a wrong type
        return Meant(rule, texts([rule.code]) + texts([rule.unit]))
