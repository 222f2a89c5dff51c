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
from services.core.terminology.variables import Bounds
from services.ingest.normalise import resources, strict
from services.ingest.normalise.findings import OutOfScope
from services.ingest.normalise.observation import meaning

_REMEMBERED: Final = 1024
LONGEST: Final = 2048
"""Bytes of codes that are remembered: nothing that is sent fills the memory."""
BRACKETS: Final = 20
"""What has no more of them is not too deep anywhere."""
_OBSERVATION: Final = Kind.OBSERVATION
_UNUSUAL: Final = int(Flag.UNUSUAL)


class Rule(msgspec.Struct, frozen=True):
    """What a number means that comes with one code and one unit."""

    variable: int
    code: str
    unit: str
    conversion: Conversion | None
    """None where numbers do not change."""
    flags: int
    mistaken_upto: float
    usual: Bounds
    possible: Bounds

    def value(self, number: float) -> tuple[float, int] | None:
        """Give a value in the model's unit, and its flags; None of one that needs a second look.

        Zero does: it is asystole, or a number too small for a float64.
        """
        value = number if self.conversion is None else self.conversion.apply(number)
        if 0 <= number <= self.mistaken_upto:
            return None
        if self.usual.holds(value):
            return value, self.flags
        return (value, self.flags | _UNUSUAL) if self.possible.holds(value) else None


@lru_cache(_REMEMBERED)
def is_panel(terminology: Terminology, code: bytes, category: bytes) -> bool:
    """Say whether code and category are those of a panel, which has no value of its own."""
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
        usual=variable.usual,
        possible=variable.possible,
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
