"""What senders say again and again, kept as the bytes that it leads to.

A ward writes about the same patients in the same codes and units from the same devices all day.
"""

import math
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from services.core.pseudonyms import (
    device_name,
    encounter_pseudonym,
    patient_pseudonym,
    reading_ids,
)
from services.core.terminology.book import Terminology
from services.ingest.normalise.findings import OutOfScope
from services.ingest.normalise.forms import Plain
from services.ingest.normalise.links import patient_and_encounter
from services.ingest.normalise.plain import LONGEST, Rule, is_panel, rule_of
from services.runtime.avro import NONE, blob, text, texts

_REMEMBERED: Final = 8192

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
    """What numbers mean that come with a code and a unit, and how events name both."""

    rule: Rule
    variable: int
    code: bytes
    unit: bytes
    listed: bytes
    """Both as an event of one reading names them."""
    low: float
    high: float
    """Numbers between the two are usual, and values in the model's unit as they are."""

    def said(self, number: float) -> "Said":
        """Give the value of any number, what it means, and its flags; raises ValueError."""
        if self.low < number < self.high:
            return self, number, 0
        return (self, *self.value(number))

    def value(self, number: float) -> tuple[float, int]:
        """Give the value of any number, and its flags.

        Raises:
            ValueError: it has to be looked at more closely.
        """
        found = self.rule.value(number)
        if found is None:
            raise ValueError("not a value that can be")
        return found


Said = tuple[Meant, float, int]
"""A value in the model's unit, what it means, and its flags."""


class Source:
    """The patients and devices of one source."""

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
        self._begin = begin + self.text
        self.end = NONE + NONE + text(terminology)
        """How every event ends: without demographics and stay."""
        self.reading_id = reading_ids(key, name)
        self.named = Kept(self._named)
        """By the ids of a patient and an encounter, the latter perhaps empty."""
        self.whose = Kept(self._whose)
        """By the references to both."""
        self.device = Kept(self.device_text)
        """How events name a device, by the reference to it, perhaps empty."""

    def device_text(self, reference: str) -> bytes:
        """Give how events name a device."""
        return text(device_name(self._key, self._name, reference) if reference else "")

    def _named(self, ids: tuple[str, str]) -> Whose:
        patient, stay = ids
        pseudonym = patient_pseudonym(self._key, self._name, patient)
        where = encounter_pseudonym(self._key, self._name, stay) if stay else b""
        return Whose(patient, pseudonym, self._begin + blob(pseudonym) + blob(where))

    def _whose(self, about: tuple[str, str]) -> Whose:
        found = patient_and_encounter(*about)
        if found is None:
            raise ValueError("no patient")
        return self.named[found]


class Language:
    """The codes and units of all sources."""

    def __init__(self, terminology: Terminology) -> None:
        """Begin with nothing remembered."""
        self._terminology = terminology
        self.meant = Kept(self._means)
        """By code, category, and system and code of the unit, as they are written."""
        self._panels = Kept(self._is_panel)

    def readings(self, seen: Plain) -> tuple[Said, ...] | OutOfScope:
        """Read an Observation's own value, or those of a panel's components.

        Raises:
            ValueError: it has to be looked at more closely.
        """
        own = seen.valueQuantity
        if own is None:
            return self._of_panel(seen)
        if seen.component:
            raise ValueError("a panel with a value of its own")
        meant = self.meant[bytes(seen.code), bytes(seen.category), own.system, own.code]
        if isinstance(meant, OutOfScope):
            return meant
        return (meant.said(own.value),)

    def _of_panel(self, seen: Plain) -> tuple[Said, ...]:
        category = bytes(seen.category)
        if not self._panels[bytes(seen.code), category]:
            raise ValueError("no panel and no value")
        found: dict[int, Said] = {}
        for part in seen.component:
            own = part.valueQuantity
            meant = self.meant[bytes(part.code), category, own.system, own.code]
            if isinstance(meant, OutOfScope) or meant.variable in found:
                raise ValueError("not the parts of a panel")
            found[meant.variable] = meant.said(own.value)
        if not found:
            raise ValueError("nothing in it")
        return tuple(found.values())

    def _means(self, told: tuple[bytes, bytes, str | None, str]) -> Meant | OutOfScope:
        _check_length(told[0], told[1])
        rule = rule_of(self._terminology, *told)
        if rule is None:
            raise ValueError("not usual")
        if isinstance(rule, OutOfScope):
            return rule
        low = math.inf if rule.conversion else max(rule.usual.low, rule.mistaken_upto)
        listed = texts([rule.code]) + texts([rule.unit])
        named = text(rule.code), text(rule.unit), listed
        return Meant(rule, rule.variable, *named, low, rule.usual.high)

    def _is_panel(self, told: tuple[bytes, bytes]) -> bool:
        _check_length(*told)
        return is_panel(self._terminology, *told)


def _check_length(code: bytes, category: bytes) -> None:
    if len(code) + len(category) > LONGEST:
        raise ValueError("too long to be remembered")
