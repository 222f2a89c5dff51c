"""The arrays of all patients of a partition: a slot for each, and the blocks of their rows."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import PSEUDONYM_BYTES
from services.scoring.patients.index import search
from services.scoring.patients.packing import COUNTS, READINGS, SIZE, pack, unpack
from services.scoring.patients.sheet import HEAD, NONE, Sheet, wipe

BLOCK_BYTES: Final = 256
"""Of a patient's last block half is empty, on average."""
WORD_BYTES: Final = 8
WORDS: Final = BLOCK_BYTES // WORD_BYTES
FREE, MANY_FREE = range(2)
"""The first of the free blocks, and how many there are."""
UNMET, UNTOLD, HERE, GONE = range(4)
"""Of a patient's encounter: there is none; nobody told of its stay; it goes on; it is over."""
LENGTH, NEWEST, HEARD, STAYS, ENCOUNTER, _, FRONT = range(7)
"""Words before the readings of a patient who is taken out of the store: how many bytes of readings
follow, the newest measured_at, the latest received_at, how the encounter stands, and its
pseudonym of two words; FRONT are they all."""

Array = npt.NDArray[Any]


class Store(NamedTuple):
    """Arrays of S slots and B blocks.

    Attributes:
        blocks: (B, WORDS) int64: rows of patients, cut into blocks.
        after: (B,) int32: the block that goes on, NONE at the end.
        free: (2,) int64: FREE, MANY_FREE.
        first: (S,) int32: the block in which the row begins, NONE of whom nothing was measured.
        head: (S,) int64: the newest measured_at, µs.
        heard_at: (S,) int64: the latest received_at, µs.
        encounter: (S, 16) uint8.
        stays: (S,) int8: UNMET, UNTOLD, HERE or GONE.
        person: (S, 2) float32: age in years and sex (0 female, 1 male), NaN is unknown.
        group: (S,) int32: number of the patient's cohorts.
        wakeful: (S,) bool: whether a policy remembers what a low score could change.
        stamp: (S,) int64: number of the last leaf of the journal that the patient's row includes.
        names: (S, NAME_WORDS) int64.
        places: slots by name, see `index`.
    """

    blocks: Array
    after: Array
    free: Array
    first: Array
    head: Array
    heard_at: Array
    encounter: Array
    stays: Array
    person: Array
    group: Array
    wakeful: Array
    stamp: Array
    names: Array
    places: Array


@compiled
def find(store: Store, told: Array, at: int) -> int:
    """Give the slot of the patient whose name stands at a place; NONE of whom nobody heard."""
    return search(store.names, store.places, told, at)


@compiled
def find_all(store: Store, names: Array, found: Array) -> None:
    """Fill in the slots of names; NONE of whom nobody heard."""
    for place in range(len(found)):
        found[place] = find(store, names, place * PSEUDONYM_BYTES)


@compiled
def find_behind(store: Store, names: Array, number: int, found: Array) -> int:
    """Fill in the places of names as `Slots.behind` says; gives how many there are."""
    many = 0
    for place in range(len(found)):
        slot = find(store, names, place * PSEUDONYM_BYTES)
        if slot != NONE and store.stamp[slot] < number:
            found[many], many = place, many + 1
    return many


@compiled
def lay_open(store: Store, slot: int, sheet: Sheet, more: int) -> bool:
    """Lay a patient's readings on the sheet; False if it cannot take them and more."""
    sheet.state[HEAD] = store.head[slot]
    first = store.first[slot]
    if first == NONE:
        wipe(sheet)
        return more <= len(sheet.values)
    counts = store.blocks[first, : COUNTS // 2].view(np.int32)
    if counts[READINGS] + more > len(sheet.values):
        return False
    fetch(store, slot, sheet.packed.view(np.int64))
    unpack(sheet)
    return True


@compiled
def lay_away(store: Store, slot: int, sheet: Sheet) -> bool:
    """Keep what is on the sheet; False if there are too few blocks, and nothing was done."""
    if not put_back(store, slot, sheet, pack(sheet)):
        return False
    store.head[slot] = sheet.state[HEAD]
    return True


@compiled
def fetch(store: Store, slot: int, words: Array) -> None:
    """Copy a patient's row to where there is room for it."""
    at, block = 0, store.first[slot]
    while block != NONE:
        for word in range(WORDS):
            words[at + word] = store.blocks[block, word]
        at, block = at + WORDS, store.after[block]


@compiled
def measure_rows(store: Store, slots: Array, places: Array) -> int:
    """Say where each patient begins and ends, in bytes, and how many words hold all.

    Args:
        store: of the partition.
        slots: (N,) of patients.
        places: (2, N) int64, filled in.
    """
    at = 0
    for number in range(len(slots)):
        size = _size(store, slots[number])
        places[0, number], places[1, number] = at, at + FRONT * WORD_BYTES + size
        at += FRONT * WORD_BYTES + (size + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES
    return at // WORD_BYTES


@compiled
def take_rows(store: Store, slots: Array, places: Array, words: Array) -> None:
    """Copy what is kept of patients to where `measure_rows` says: FRONT, then the readings."""
    encounters = store.encounter.view(np.int64)
    for number in range(len(slots)):
        slot, at = slots[number], places[0, number] // WORD_BYTES
        words[at + LENGTH] = _size(store, slot)
        words[at + NEWEST], words[at + HEARD] = store.head[slot], store.heard_at[slot]
        words[at + STAYS], met = store.stays[slot], store.stays[slot] != UNMET
        for word in range(FRONT - ENCOUNTER):
            words[at + ENCOUNTER + word] = encounters[slot, word] if met else 0
        fetch(store, slot, words[at + FRONT :])


@compiled
def _size(store: Store, slot: int) -> int:
    """Give the bytes of a patient's readings."""
    first = store.first[slot]
    if first == NONE:
        return 0
    return int(store.blocks[first, : COUNTS // 2].view(np.int32)[SIZE])


@compiled
def put_back(store: Store, slot: int, sheet: Sheet, size: int) -> bool:
    """Copy the row on the sheet to blocks; False if there are too few, and nothing was done."""
    wanted = (size + BLOCK_BYTES - 1) // BLOCK_BYTES
    many, block = 0, store.first[slot]
    while block != NONE:
        many, block = many + 1, store.after[block]
    if wanted - many > store.free[MANY_FREE]:
        return False
    words, before, block = sheet.packed.view(np.int64), NONE, store.first[slot]
    for number in range(wanted):
        if block == NONE:
            block = _another(store)
            if before == NONE:
                store.first[slot] = block
            else:
                store.after[before] = block
        for word in range(WORDS):
            store.blocks[block, word] = words[number * WORDS + word]
        before, block = block, store.after[block]
    release(store, block)
    store.after[before] = NONE
    return True


@compiled
def release(store: Store, block: int) -> None:
    """Take back a block and those that follow it."""
    while block != NONE:
        following = store.after[block]
        store.after[block] = store.free[FREE]
        store.free[FREE] = block
        store.free[MANY_FREE] += 1
        block = following


@compiled
def thread(store: Store, start: int) -> None:
    """Take in blocks that are new, from one on; the first of them is given away first."""
    for block in range(len(store.after) - 1, start - 1, -1):
        store.after[block] = NONE
        release(store, block)


@compiled
def _another(store: Store) -> int:
    block = store.free[FREE]
    store.free[FREE] = store.after[block]
    store.free[MANY_FREE] -= 1
    store.after[block] = NONE
    return int(block)
