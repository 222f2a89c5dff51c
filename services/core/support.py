"""Which patients a model can speak of: those that are like the ones it learned from.

One value beyond the range of training does not silence a model: the sickest patients stand at the
edges, and they are whom it is for. Several at once do, as of another kind of patient, or of a
laboratory that sends other units; and so does an age below all that were seen.
"""

import math
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.core.compiled import compiled
from services.core.vitals import VARIABLE_INDEX, VARIABLES

Count = Annotated[int, msgspec.Meta(ge=0, le=len(VARIABLES))]


class Support(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The training population's limits, as the key `support` of a bundle's reference.json.

    Attributes:
        variables: lowest and highest value that patients had, in model units; others have none.
        youngest: years; whoever is younger is none of them.
        most_outside: so many last values may lie beyond their range.
        hours_outside: share of the training hours that the rule leaves out.
    """

    variables: dict[str, tuple[float, float]]
    youngest: float | None = None
    most_outside: Count = 0
    hours_outside: float = 0.0


class Limits(NamedTuple):
    """The same as arrays; V = len(VARIABLES), float32, infinite where there is no range.

    `youngest` has the precision of the features.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    youngest: float
    most_outside: int

    @classmethod
    def of(cls, support: Support) -> "Limits":
        """Compile a rule.

        Raises:
            ValueError: it names a variable that there is none of, or a range without values.
        """
        low = np.full(len(VARIABLES), -np.inf, np.float32)
        high = -low
        for name, (lowest, highest) in support.variables.items():
            if name not in VARIABLE_INDEX or not lowest <= highest:
                raise ValueError(f"it has no range of {name}")
            low[VARIABLE_INDEX[name]], high[VARIABLE_INDEX[name]] = lowest, highest
        youngest = -math.inf if support.youngest is None else support.youngest
        return cls(low, high, float(np.float32(youngest)), support.most_outside)


def read_limits(reference: dict[str, Any]) -> Limits | None:
    """Read the rule from a bundle's reference.json; None where it states none.

    Raises:
        ValueError: it is no rule; the text says why.
    """
    if "support" not in reference:
        return None
    try:
        return Limits.of(msgspec.convert(reference["support"], Support))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def outside(
    limits: Limits, last: NDArray[np.floating], age: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Tell of each of N patients whether the model learned from nobody like them.

    What is not known speaks against nobody.

    Args:
        limits: the rule.
        last: (N, V) last values, NaN if never.
        age: (N,) years, NaN if unknown.

    >>> limits = Limits.of(Support(variables={"HR": (30, 180)}, youngest=18, most_outside=0))
    >>> last = np.full((3, len(VARIABLES)), np.nan, np.float32)
    >>> last[0, 0] = 181
    >>> outside(limits, last, np.array([50, np.nan, 17])).tolist()
    [True, False, True]
    """
    found = np.empty(len(last), np.bool_)
    _find_outside(limits, last, age, found)
    return found


@compiled
def _find_outside(
    limits: Limits,
    last: NDArray[np.floating],
    age: NDArray[np.floating],
    found: NDArray[np.bool_],
) -> None:
    for row in range(len(found)):
        found[row] = is_outside(limits, last[row], age[row])


@compiled
def is_outside(limits: Limits, last: NDArray[np.floating], age: float) -> bool:
    """Tell of one patient, as `outside` does: V last values, and years."""
    beyond = 0
    for variable in range(len(last)):
        value = last[variable]
        beyond += value < limits.low[variable] or value > limits.high[variable]
    return bool(beyond > limits.most_outside or age < limits.youngest)
