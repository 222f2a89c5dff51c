"""An Observation as monitors and laboratories send it, read in one look.

Most are so: a usual value, in a unit that is known, at a time that can be. It is read here as
`observation` would read it; what is not plain is left to `observation`, and nothing is refused.
"""

from functools import lru_cache
from typing import Final

import msgspec

from services.core.errors import Reason, Refusal
from services.core.events import Flag, Kind
from services.core.terminology.book import Concept, Terminology
from services.core.terminology.codes import NOT_OURS, PANEL
from services.core.terminology.units import Conversion
from services.ingest.normalise import moments, resources, strict
from services.ingest.normalise.findings import Measured, OutOfScope, Reading
from services.ingest.normalise.forms import Plain
from services.ingest.normalise.links import check_id, patient_and_encounter
from services.ingest.normalise.observation import is_skewed, meaning, version_of

_REMEMBERED: Final = 1024
LONGEST: Final = 2048
"""Bytes of codes that are remembered: nothing that is sent fills the memory."""
BRACKETS: Final = 20
"""What has no more of them is not too deep anywhere."""
_OBSERVATION: Final = Kind.OBSERVATION


class Rule(msgspec.Struct, frozen=True):
    """What a number means that comes with one code and one unit."""

    variable: int
    code: str
    unit: str
    conversion: Conversion | None
    """None where numbers do not change."""
    flags: int
    mistaken_upto: float
    low: float
    high: float
    """Values between the two are usual."""

    def value(self, number: float) -> float | None:
        """Give a usual value in the model's unit; None of one that needs a second look."""
        value = number if self.conversion is None else self.conversion.apply(number)
        if not self.low < value < self.high or 0 <= number <= self.mistaken_upto:
            return None
        return value

    def reading(self, number: float) -> Reading | None:
        """Give the reading of a usual value; None of one that needs a second look."""
        value = self.value(number)
        if value is None:
            return None
        return Reading(self.variable, value, self.flags, self.code, self.unit)


def read_plain(
    seen: Plain, terminology: Terminology, received_at: int
) -> Measured | OutOfScope | None:
    """Read a plain Observation, or give None where `observation.read_observation` must.

    It stands alone or among its like: its references point to no entry of its message.

    Raises:
        Exception: any is a None.
    """
    check_id(seen.id, "id")
    readings = _readings(seen, terminology)
    if not isinstance(readings, list):
        return readings
    at = moments.instant(seen.effectiveDateTime)
    where = seen.encounter.reference if seen.encounter else ""
    whose = patient_and_encounter(seen.subject.reference, where)
    if whose is None or at > received_at + moments.FUTURE_US:
        return None
    return Measured(
        kind=_OBSERVATION,
        patient=whose[0],
        encounter=whose[1],
        measured_at=at,
        identifier=seen.id,
        without_id=False,
        version=version_of(seen.meta),
        device=seen.device.reference if seen.device else "",
        skewed=is_skewed(seen.issued, at, readings[0].variable, received_at),
        readings=readings,
    )


def _readings(seen: Plain, terminology: Terminology) -> list[Reading] | OutOfScope | None:
    """Read its own value, or those of a panel's components; None where one is not usual."""
    own, code, category = seen.valueQuantity, bytes(seen.code), bytes(seen.category)
    if len(code) + len(category) > LONGEST:
        return None
    if own is None:
        return _of_panel(seen, code, category, terminology)
    rule = rule_of(terminology, code, category, own.system, own.code)
    if rule is None or seen.component:
        return None
    if isinstance(rule, OutOfScope):
        return rule
    reading = rule.reading(own.value)
    return [reading] if reading else None


def _of_panel(
    seen: Plain, code: bytes, category: bytes, terminology: Terminology
) -> list[Reading] | None:
    if not _is_panel(terminology, code, category):
        return None
    found: dict[int, Reading] = {}
    for part in seen.component:
        code, quantity = bytes(part.code), part.valueQuantity
        if len(code) + len(category) > LONGEST:
            return None
        rule = rule_of(terminology, code, category, quantity.system, quantity.code)
        reading = rule.reading(quantity.value) if isinstance(rule, Rule) else None
        if reading is None or reading.variable in found:
            return None
        found[reading.variable] = reading
    return list(found.values()) or None


@lru_cache(_REMEMBERED)
def _is_panel(terminology: Terminology, code: bytes, category: bytes) -> bool:
    try:
        return _meaning(terminology, code, category).variable == PANEL
    except Refusal:
        return False


@lru_cache(_REMEMBERED)  # a hospital writes the same few hundred all day
def rule_of(
    terminology: Terminology, code: bytes, category: bytes, system: str | None, unit: str
) -> Rule | OutOfScope | None:
    """Say what numbers mean with a code and a unit; None where they have to be looked at."""
    try:
        concept = _meaning(terminology, code, category)
        if concept.variable == NOT_OURS:
            return OutOfScope(terminology.told(concept.code))
        told = terminology.ucum_of(system, unit)
        if concept.variable == PANEL or told is None:
            return None
        conversion = terminology.conversion(concept, told)
    except Refusal:
        return None
    variable = terminology.variables[concept.variable]
    return Rule(
        variable=variable.index,
        code=concept.code,
        unit=told,
        conversion=conversion if conversion.changes else None,
        flags=int(Flag.CONVERTED if conversion.changes else Flag.NONE),
        mistaken_upto=conversion.mistaken_upto,
        low=variable.usual.low,
        high=variable.usual.high,
    )


def _meaning(terminology: Terminology, code: bytes, category: bytes) -> Concept:
    """Parse what an Observation is about, and say what it means; raises Refusal."""
    written = b'{"code":%b,"category":%b}' % (code, category or b"[]")
    if written.count(b"{") + written.count(b"[") > BRACKETS:
        raise Refusal(Reason.JSON_DEPTH, "code")
    about = resources.read(strict.parse(written), resources.Observation)
    if about.code is None or not about.code.coding:
        raise Refusal(Reason.FHIR_CODE, "code")
    return meaning(about.code, about.category, terminology)
