"""Finds the slot of a patient by name, in arrays: no object of the patient is touched.

Open addressing: a name stands at its home or in the first free place behind it, and whoever leaves
lets those behind move up, so that nothing of the past lengthens a search.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import PSEUDONYM_BYTES

NOWHERE: Final = -1
NAME_WORDS: Final = PSEUDONYM_BYTES // 8
_MIX: Final = np.int64(-7046029254386353131)  # an odd number whose bits are far from regular

Array = npt.NDArray[Any]


@compiled
def search(names: Array, index: Array, told: Array, at: int) -> int:
    """Give the slot of the name that stands at a place of some bytes; NOWHERE of a stranger.

    Args:
        names: (S, NAME_WORDS) int64: the name of each slot.
        index: (a power of two,) int32: slots, NOWHERE where it is free; at most half are taken.
        told: (B,) uint8.
        at: where the name begins.
    """
    first, second = _word(told, at), _word(told, at + 8)
    place = _home(index, first, second)
    while index[place] != NOWHERE:
        slot = index[place]
        if names[slot, 0] == first and names[slot, 1] == second:
            return int(slot)
        place = (place + 1) % len(index)
    return NOWHERE


@compiled
def enter(names: Array, index: Array, slot: int) -> None:
    """Take in a slot, whose name is new."""
    place = _home(index, names[slot, 0], names[slot, 1])
    while index[place] != NOWHERE:
        place = (place + 1) % len(index)
    index[place] = slot


@compiled
def enter_all(names: Array, index: Array, before: Array) -> None:
    """Take in all that another index has."""
    for place in range(len(before)):
        if before[place] != NOWHERE:
            enter(names, index, before[place])


@compiled
def leave(names: Array, index: Array, slot: int) -> None:
    """Take out a slot that is in the index."""
    many = len(index)
    place = _home(index, names[slot, 0], names[slot, 1])
    while index[place] != slot:
        place = (place + 1) % many
    free = place
    while index[place] != NOWHERE:
        place = (place + 1) % many
        other = index[place]
        if other != NOWHERE:
            home = _home(index, names[other, 0], names[other, 1])
            if (place - home) % many >= (place - free) % many:
                index[free], free = other, place
    index[free] = NOWHERE


@compiled
def _home(index: Array, first: int, second: int) -> int:
    return int(((first ^ (second >> 1)) * _MIX >> 24) & (len(index) - 1))


@compiled
def _word(told: Array, at: int) -> int:
    word = np.int64(0)
    for byte in range(7, -1, -1):
        word = word << 8 | np.int64(told[at + byte])
    return word  # type: ignore[return-value]  # the compiler knows but one integer
