"""The arrays in which all patients of a partition are kept: a slot for each, a chain of blocks."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import PSEUDONYM_BYTES
from services.scoring.patients.groups import Groups
from services.scoring.patients.index import NAME_WORDS, NOWHERE, enter, enter_all, leave, search
from services.scoring.patients.packing import (
    COUNTS,
    MOST_BYTES,
    READING_BYTES,
    READINGS,
    SIZE,
    pack,
    unpack,
)
from services.scoring.patients.sheet import HEAD, NONE, Sheet, sheet_for, wipe
from services.scoring.patients.summary import NEVER

BLOCK_BYTES: Final = 256
"""Of a patient's last block half is empty, on average."""
WORD_BYTES: Final = 8
WORDS: Final = BLOCK_BYTES // WORD_BYTES
FIRST_SLOTS: Final = 64
FIRST_BLOCKS: Final = 256
FIRST_ROWS: Final = 1024
AT_ONCE: Final = 64
"""Rows that are fetched at once: a few hundred kB."""
FREE, MANY_FREE = range(2)
"""The first of the free blocks, and how many there are."""
UNMET, UNTOLD, HERE, GONE = range(4)
"""Of a patient's encounter: there is none; nobody told of its stay; it goes on; it is over."""

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


class Kept(NamedTuple):
    """What a slot holds that the changelog keeps.

    Attributes:
        readings: the row (see `packing`); empty where nothing was measured.
        head: the newest measured_at, µs; NEVER before the first.
        heard_at: the latest received_at, µs.
        encounter: its pseudonym; empty before the first.
    """

    readings: bytes
    head: int
    heard_at: int
    encounter: bytes


class Slots:
    """Gives slots and blocks away, and takes them back."""

    def __init__(self) -> None:
        self.sheet = sheet_for(FIRST_ROWS, _bytes_of(FIRST_ROWS))
        self.store = Store(
            blocks=np.empty((0, WORDS), np.int64),
            after=np.empty(0, np.int32),
            free=np.array([NONE, 0]),
            first=np.empty(0, np.int32),
            head=np.empty(0, np.int64),
            heard_at=np.empty(0, np.int64),
            encounter=np.empty((0, PSEUDONYM_BYTES), np.uint8),
            stays=np.empty(0, np.int8),
            person=np.empty((0, 2), np.float32),
            group=np.empty(0, np.int32),
            wakeful=np.empty(0, np.bool_),
            stamp=np.empty(0, np.int64),
            names=np.empty((0, NAME_WORDS), np.int64),
            places=np.full(2, NOWHERE, np.int32),
        )
        self.groups = Groups()
        self._free: list[int] = []

    def take(self, name: bytes) -> int:
        """Give a slot of which nothing is known to a patient who has none."""
        if not self._free:
            before = len(self.store.first)
            self._more(*Store._fields[3:-1], least=FIRST_SLOTS)
            self._free = list(range(len(self.store.first) - 1, before - 1, -1))
            self._widen()
        slot, store = self._free.pop(), self.store
        store.names[slot], store.stamp[slot] = np.frombuffer(name, np.int64), 0
        enter(store.names, store.places, slot)
        store.first[slot], store.head[slot], store.heard_at[slot] = NONE, NEVER, NEVER
        store.stays[slot], store.person[slot] = UNMET, np.nan
        store.group[slot], store.wakeful[slot] = 0, False
        return slot

    def give_back(self, slot: int) -> None:
        """Let another patient have the slot and its blocks."""
        self.clear(slot)
        leave(self.store.names, self.store.places, slot)
        self._free.append(slot)

    def clear(self, slot: int) -> None:
        """Forget all that was measured."""
        if self.store.first[slot] != NONE:
            release(self.store, self.store.first[slot])
        self.store.first[slot], self.store.head[slot] = NONE, NEVER

    def make_room(self, slot: int, more: int) -> None:
        """See to it that the sheet can take the slot's readings and more, and so can blocks."""
        many = int(self._header(slot)[READINGS]) + more
        if many > len(self.sheet.values):
            self.sheet = sheet_for(2 * many, _bytes_of(2 * many))
        blocks = _bytes_of(many) // BLOCK_BYTES
        if self.store.free[MANY_FREE] < blocks:
            before = len(self.store.after)
            self._more("blocks", "after", least=max(FIRST_BLOCKS, blocks))
            thread(self.store, before)

    def kept(self, slots: Sequence[int]) -> Iterator[Kept]:
        """Give what is kept of patients; of few at a time, so that caches hold it meanwhile."""
        for start in range(0, len(slots), AT_ONCE):
            yield from self._kept(np.array(slots[start : start + AT_ONCE], np.int64))

    def _kept(self, wanted: Array) -> Iterator[Kept]:
        store = self.store
        places = np.empty((2, len(wanted)), np.int64)
        words = np.empty(measure_rows(store, wanted, places), np.int64)
        fetch_rows(store, wanted, places, words)
        told, names = words.view(np.uint8).data, store.encounter[wanted].tobytes()
        met = (store.stays[wanted] != UNMET).tolist()
        heads, heard = store.head[wanted].tolist(), store.heard_at[wanted].tolist()
        for number, (begin, end) in enumerate(places.T.tolist()):
            at = number * PSEUDONYM_BYTES
            name = names[at : at + PSEUDONYM_BYTES] if met[number] else b""
            yield Kept(bytes(told[begin:end]), heads[number], heard[number], name)

    def fill(self, slot: int, head: int, row: bytes) -> None:
        """Take a row that another slot gave; this one is empty."""
        self.store.head[slot] = head
        if not row:
            return
        counts = np.frombuffer(row, np.int32, COUNTS)
        self.make_room(slot, int(counts[READINGS]))
        self.sheet.packed[: len(row)] = np.frombuffer(row, np.uint8)
        put_back(self.store, slot, self.sheet, len(row))

    def behind(self, names: bytes, number: int) -> list[int]:
        """Say which of some names are of patients whose rows do not include a leaf, by place."""
        found = np.empty(len(names) // PSEUDONYM_BYTES, np.int64)
        many = find_behind(self.store, np.frombuffer(names, np.uint8), number, found)
        places: list[int] = found[:many].tolist()
        return places

    def _widen(self) -> None:
        """See to it that half of the index stays free however many slots are taken."""
        before, wanted = self.store.places, 2 * len(self.store.first)
        self.store = self.store._replace(
            places=np.full(1 << (wanted - 1).bit_length(), NOWHERE, np.int32)
        )
        enter_all(self.store.names, self.store.places, before)

    def _header(self, slot: int) -> Array:
        first = self.store.first[slot]
        if first == NONE:
            return np.zeros(COUNTS, np.int32)
        return self.store.blocks[first, : COUNTS // 2].view(np.int32)

    def _more(self, *names: str, least: int) -> None:
        """Make arrays a quarter as long again, at least; what is not used yet costs no memory."""
        grown = {}
        for name in names:
            old = getattr(self.store, name)
            grown[name] = np.empty(
                (len(old) + max(least, len(old) // 4), *old.shape[1:]), old.dtype
            )
            grown[name][: len(old)] = old
        self.store = self.store._replace(**grown)


def _bytes_of(readings: int) -> int:
    """Give the most bytes that so many readings can take, in whole blocks."""
    return -(-(MOST_BYTES + READING_BYTES * readings) // BLOCK_BYTES) * BLOCK_BYTES


@compiled
def find(store: Store, told: Array, at: int) -> int:
    """Give the slot of the patient whose name stands at a place; NONE of whom nobody heard."""
    return search(store.names, store.places, told, at)


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
    """Say where each of the rows begins and ends, in bytes, and how many words hold all."""
    at = 0
    for number in range(len(slots)):
        first, size = store.first[slots[number]], 0
        if first != NONE:
            size = store.blocks[first, : COUNTS // 2].view(np.int32)[SIZE]
        places[0, number], places[1, number] = at, at + size
        at += (size + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES
    return at // WORD_BYTES


@compiled
def fetch_rows(store: Store, slots: Array, places: Array, words: Array) -> None:
    """Copy rows to where `measure_rows` says."""
    for number in range(len(slots)):
        fetch(store, slots[number], words[places[0, number] // WORD_BYTES :])


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
