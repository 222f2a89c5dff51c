"""A number with its unit becomes a value of the model's variable, or is refused."""

import math
from typing import Final

from services.core.errors import Reason, Refusal
from services.core.events import Flag
from services.core.terminology.book import Concept, Terminology
from services.core.terminology.units import Conversion
from services.core.terminology.variables import Variable
from services.ingest.normalise.findings import Reading
from services.ingest.normalise.resources import Quantity
from services.ingest.normalise.strict import TOO_GREAT

_COMPARATORS: Final = frozenset({"<", "<=", ">=", ">", "ad"})


def absent(concept: Concept) -> Reading:
    """Give the reading of a value that is missing with a reason."""
    return Reading(concept.variable, math.nan, Flag.ABSENT, concept.code, "")


def reading(quantity: Quantity, concept: Concept, terminology: Terminology) -> Reading:
    """Convert a quantity to the model's unit and hold it against the ranges of its variable.

    Raises:
        Refusal: VALUE_TYPE, UNIT_UNKNOWN, UNIT_DIMENSION, UNIT_IMPLAUSIBLE, NUM_RANGE or RANGE.
    """
    number, unit = _number(quantity), _unit(quantity, terminology)
    conversion = terminology.conversion(concept, unit)
    variable = terminology.variables[concept.variable]
    value = conversion.apply(number) if conversion.changes else number
    if not variable.possible.holds(value) or 0 < number <= conversion.mistaken_upto:
        _refuse(number, variable, conversion, terminology)
    flags = Flag.CONVERTED if conversion.changes else Flag.NONE
    if quantity.comparator is not None:
        flags |= _compared(quantity.comparator)
    if not variable.usual.holds(value):
        flags |= Flag.UNUSUAL
    return Reading(variable.index, value, int(flags), concept.code, unit)


def _number(quantity: Quantity) -> float:
    if quantity.value is None:
        raise Refusal(Reason.VALUE_TYPE, "value")
    if abs(quantity.value) >= TOO_GREAT:
        raise Refusal(Reason.NUM_RANGE, "value")
    return quantity.value


def _unit(quantity: Quantity, terminology: Terminology) -> str:
    """Give the UCUM code, or the one that the site says is meant.

    A bare number is refused, and so is a unit that is only text and that the site does not know.
    """
    unit = terminology.ucum_of(quantity.system, quantity.code)
    if unit is None and quantity.code is None and isinstance(quantity.unit, str):
        unit = terminology.ucum_of(None, quantity.unit)
    if unit is None:
        raise Refusal(Reason.UNIT_UNKNOWN, "code")
    return unit


def _compared(comparator: str) -> Flag:
    if comparator not in _COMPARATORS:
        raise Refusal(Reason.VALUE_TYPE, "comparator")
    return Flag.COMPARATOR


def _refuse(
    number: float, variable: Variable, conversion: Conversion, terminology: Terminology
) -> None:
    """Refuse an impossible value; if another unit would make it usual, the unit is at fault."""
    mistaken = 0 < number <= conversion.mistaken_upto
    elsewhere = any(
        variable.usual.holds(other.apply(number))
        for other in terminology.conversions(variable.index)
    )
    raise Refusal(Reason.UNIT_IMPLAUSIBLE if mistaken or elsewhere else Reason.RANGE, "value")
