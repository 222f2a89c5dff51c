"""All tables together, and the look-ups that reading an Observation needs."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Self

import msgspec

from services.core.errors import Reason, Refusal
from services.core.terminology import codes, people, resources, units, variables
from services.core.terminology.codes import CATEGORIES, NOT_OURS, Codes, is_loinc
from services.core.terminology.people import PeopleCodes
from services.core.terminology.units import Conversion, Conversions
from services.core.terminology.variables import Variable

LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
NOT_LOINC: Final = "not LOINC"
"""Told in place of a code that is none: free text could name a person."""
TABLES: Final = (variables.TABLE, codes.TABLE, units.TABLE, people.TABLE, resources.TABLE)
VERSION_DIGITS: Final = 12
_REMEMBERED: Final = 4096


class Concept(msgspec.Struct, frozen=True):
    """What the codings of an Observation mean together."""

    code: str
    """The LOINC code that told it."""
    variable: int
    """A variable's index, PANEL or NOT_OURS."""
    units: frozenset[str] = frozenset()
    """Units that may come with it; empty is all that the variable knows."""


class Terminology:
    """Meanings of codes and units, parsed once at start; never changes."""

    def __init__(
        self,
        *,
        version: str,
        variables: tuple[Variable, ...],
        codes: Codes,
        conversions: Mapping[int | None, Conversions],
        people: PeopleCodes,
        resources: frozenset[str],
    ) -> None:
        self.version = version
        """12 hex digits of the SHA-256 of all tables: the factor version of every conversion."""
        self.variables = variables
        self.people = people
        self.resources = resources
        """Names of the resource types that FHIR has."""
        self._codes, self._conversions = codes, conversions
        self._known_units = frozenset(unit for units in conversions.values() for unit in units)
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._agreed)

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> Self:
        """Parse the tables.

        Args:
            texts: per name of TABLES the file's content.

        Raises:
            KeyError: a table is missing.
            BadRow: a row cannot be used.
        """
        digest = hashlib.sha256(b"".join(texts[name].encode() for name in TABLES))
        known = variables.parse_variables(texts[variables.TABLE])
        conversions = units.parse_units(texts[units.TABLE], known)
        return cls(
            version=digest.hexdigest()[:VERSION_DIGITS],
            variables=known,
            codes=codes.parse_codes(texts[codes.TABLE], known),
            conversions=conversions,
            people=people.parse_people(texts[people.TABLE]),
            resources=resources.parse_resources(texts[resources.TABLE]),
        )

    def concept(self, loincs: Sequence[str], categories: Sequence[str]) -> Concept:
        """Say what codings of one concept mean; codes that the tables do not have say nothing.

        Args:
            loincs: the LOINC codes among the codings, in order.
            categories: codes of the Observation's categories.

        Raises:
            Refusal: they contradict each other (CODE_CONFLICT), or mean several things and the
                category does not tell which (FHIR_CODE).
        """
        known = tuple(dict.fromkeys([code for code in loincs if code in self._codes]))
        if not known:
            return Concept(loincs[0] if loincs else NOT_LOINC, NOT_OURS)
        # Only what the tables have is a key: what is remembered stays small, whatever is sent.
        return self._remembered(known, frozenset([c for c in categories if c in CATEGORIES]))

    def _agreed(self, known: tuple[str, ...], categories: frozenset[str]) -> Concept:
        shared = set.intersection(*[self._meant(code, categories) for code in known])
        if len(shared) > 1:
            raise Refusal(Reason.FHIR_CODE, "category")
        if not shared:
            raise Refusal(Reason.CODE_CONFLICT, "code.coding")
        variable = shared.pop()
        meaning = next(m for m in self._codes[known[0]] if m.variable == variable)
        return Concept(known[0], variable, meaning.units)

    def _meant(self, code: str, categories: frozenset[str]) -> set[int]:
        """Variables that a code may mean; its category decides where it has one."""
        meanings = self._codes[code]
        filed = {m.variable for m in meanings if not m.category or m.category in categories}
        return filed or {m.variable for m in meanings}

    def conversion(self, concept: Concept, unit: str) -> Conversion:
        """Find what turns a unit into the model's.

        Raises:
            Refusal: the unit is known and does not measure this (UNIT_DIMENSION), or is not known
                (UNIT_UNKNOWN).
        """
        found = self._conversions[concept.variable].get(unit)
        if found is not None and (not concept.units or unit in concept.units):
            return found
        known = unit in self._known_units
        raise Refusal(Reason.UNIT_DIMENSION if known else Reason.UNIT_UNKNOWN, "code")

    def conversions(self, variable: int) -> Iterable[Conversion]:
        """Give every conversion to a variable's unit."""
        return self._conversions[variable].values()

    def told(self, code: str) -> str:
        """Give a code as it may be told outside the PHI zone: LOINC codes only."""
        return code if is_loinc(code) else NOT_LOINC
