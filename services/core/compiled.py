"""Functions over arrays that are compiled: written as loops, as fast as C.

Compiled once and kept on disk, so that a process starts in the time of reading it: in
`services/__pycache__/compiled`, or where NUMBA_CACHE_DIR says.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

_SERVICES: Final = Path(__file__).resolve().parents[1]
_KEPT: Final = Path(
    numba.config.CACHE_DIR  # type: ignore[attr-defined]  # made when it is imported
    or _SERVICES / "__pycache__" / "compiled"
)


def edition(*rooms: Path) -> str:
    """Name the sources of some rooms: 16 hex digits, others when any file of them is another."""
    names = hashlib.sha256()
    for room in rooms:
        for file in sorted(room.rglob("*.py")):
            names.update(f"{file.relative_to(room)}\0".encode())
            names.update(hashlib.sha256(file.read_bytes()).digest())
    return names.hexdigest()[:16]


# What is compiled contains the functions that it calls and the constants that it names, of other
# files too, and numba looks at the file of the function alone: an old loop would go on unseen.
numba.config.CACHE_DIR = str(  # type: ignore[attr-defined]  # as above
    _KEPT / edition(_SERVICES / "core", _SERVICES / "scoring")
)

# For any processor of the family: an image is built on one machine and run on another, and what
# was compiled for the one would be compiled anew, for seconds, on the other.
numba.config.CPU_NAME = "generic"  # type: ignore[attr-defined]  # made when it is imported
numba.config.CPU_FEATURES = ""  # type: ignore[attr-defined]  # the same

# All in one piece: a call within would hand over each array of a store by its seven numbers.
# And without Python's lock, so that a model can score beside it.
_COMPILE: Final = numba.njit(cache=True, error_model="numpy", forceinline=True, nogil=True)


def compiled(function: F) -> F:
    """Compile a function of numbers, arrays and named tuples of them, at its first call.

    Division by zero gives infinity or NaN, as numpy has it; nothing checks the bounds of an
    array. Sums are added in the order in which they are written: no bit depends on the machine.
    """
    return cast("F", _COMPILE(function))
