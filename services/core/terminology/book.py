"""All tables together, and the look-ups that reading an Observation needs."""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Self

import msgspec

from services.core.errors import Reason, Refusal
from services.core.terminology import codes, local, people, places, resources, units, variables
from services.core.terminology.codes import CATEGORIES, NOT_OURS, is_loinc
from services.core.terminology.table import BadRow, Sheet
from services.core.terminology.units import Conversion

LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
NOT_LOINC: Final = "not LOINC"
"""Told in place of a code that is none: free text could name a person."""
TABLES: Final = (
    *(variables.TABLE, codes.TABLE, units.TABLE, people.TABLE, resources.TABLE),
    *(local.CODES, local.UNITS, places.TABLE),
)
OVERLAYS: Final = tuple(name for name in TABLES if name != resources.TABLE)
"""Those that a site can extend."""
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

    def __init__(self, sheets: Mapping[str, Sheet]) -> None:
        """Parse the tables, by names of TABLES; raises BadRow."""
        self.version = _version(sheets.values())
        """12 hex digits of the SHA-256 of all tables: the factor version of every conversion."""
        self.variables = variables.parse_variables(sheets[variables.TABLE])
        self.people = people.parse_people(sheets[people.TABLE])
        self.places = places.parse_places(sheets[places.TABLE])
        self.resources = resources.parse_resources(sheets[resources.TABLE])
        """Names of the resource types that FHIR has."""
        self._conversions = units.parse_units(sheets[units.TABLE], self.variables)
        converted = {variable: found.keys() for variable, found in self._conversions.items()}
        self._known_units = frozenset().union(*converted.values())
        self._codes = codes.parse_codes(sheets[codes.TABLE], self.variables, converted)
        self._local_codes = local.parse_local_codes(sheets[local.CODES])
        self._local_units = local.parse_local_units(sheets[local.UNITS], self._known_units)
        self._known: dict[Hashable, Concept] = {}
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._agreed)

    @classmethod
    def parse(cls, texts: Mapping[str, str], site: Mapping[str, str] | None = None) -> Self:
        """Parse the tables.

        Args:
            texts: per name of TABLES the file's content.
            site: the same of the tables that a site extends, by names of OVERLAYS.

        Raises:
            KeyError: a table is missing.
            BadRow: a row cannot be used, or a site extends a table that it cannot.
        """
        own = dict(site or {})
        for name in sorted(own.keys() - set(OVERLAYS)):
            raise BadRow(f"site/{name}: a site extends {', '.join(OVERLAYS)}")
        return cls({name: Sheet(name, texts[name], own.get(name)) for name in TABLES})

    def loinc_of(self, system: str | None, code: str | None) -> str | None:
        """Give the LOINC code of a coding: its own, or what the site says that it means."""
        if system == LOINC:
            return code or None
        return self._local_codes.get((system or "", code or ""))

    def ucum_of(self, system: str | None, unit: str | None) -> str | None:
        """Give the UCUM code of a unit: its own, or what the site says that it means."""
        if system == UCUM:
            return unit
        return self._local_units.get((system or "", unit or ""))

    def known(self, codings: Hashable) -> Concept | None:
        """Give what `remember` was told of these codings; None where nothing."""
        return self._known.get(codings)

    def remember(self, codings: Hashable, concept: Concept) -> None:
        """Remember what codings meant; they must be short, for as many are kept as tables need."""
        if len(self._known) < _REMEMBERED:
            self._known[codings] = concept

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


def _version(sheets: Iterable[Sheet]) -> str:
    """Name the content of all tables; a site without own rows has the version of the release."""
    digest = hashlib.sha256()
    for sheet in sheets:
        digest.update(sheet.text.encode())
        if sheet.site is not None:
            digest.update(f"\0{sheet.name}\0{sheet.site}".encode())
    return digest.hexdigest()[:VERSION_DIGITS]
