"""Functions over arrays that are compiled: written as loops, as fast as C.

Compiled once and kept on disk (`__pycache__`), so that a process starts in the time of reading it.
"""

from collections.abc import Callable
from typing import Final, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

# For any processor of the family: an image is built on one machine and run on another, and what
# was compiled for the one would be compiled anew, for seconds, on the other.
numba.config.CPU_NAME = "generic"  # type: ignore[attr-defined]  # made when it is imported
numba.config.CPU_FEATURES = ""  # type: ignore[attr-defined]  # the same

_COMPILE: Final = numba.njit(cache=True, error_model="numpy")


def compiled(function: F) -> F:
    """Compile a function of numbers, arrays and named tuples of them, at its first call.

    Division by zero gives infinity or NaN, as numpy has it; nothing checks the bounds of an
    array. Sums are added in the order in which they are written: no bit depends on the machine.
    """
    return cast("F", _COMPILE(function))
