"""Gives the patients of a partition room in its arrays, and takes it back."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.events import PSEUDONYM_BYTES
from services.scoring.patients.groups import Groups
from services.scoring.patients.index import NAME_WORDS, NOWHERE, enter, enter_all, leave
from services.scoring.patients.packing import COUNTS, MOST_BYTES, READING_BYTES, READINGS
from services.scoring.patients.sheet import NONE, sheet_for
from services.scoring.patients.store import (
    BLOCK_BYTES,
    MANY_FREE,
    UNMET,
    WORDS,
    Store,
    find_all,
    find_behind,
    measure_rows,
    put_back,
    release,
    take_rows,
    thread,
)
from services.scoring.patients.summary import NEVER

FIRST_SLOTS: Final = 64
FIRST_BLOCKS: Final = 256
FIRST_ROWS: Final = 1024
AT_ONCE: Final = 64
"""Patients who are taken out at once: a few hundred kB, which caches hold meanwhile."""

Array = npt.NDArray[Any]


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

    def kept(self, slots: Array) -> Iterator[memoryview]:
        """Give what is kept of patients: FRONT, then the row of readings (see `packing`)."""
        for start in range(0, len(slots), AT_ONCE):
            some = slots[start : start + AT_ONCE]
            places = np.empty((2, len(some)), np.int64)
            words = np.empty(measure_rows(self.store, some, places), np.int64)
            take_rows(self.store, some, places, words)
            told = words.view(np.uint8).data
            yield from (told[begin:end] for begin, end in places.T.tolist())

    def of(self, names: Sequence[bytes]) -> Array:
        """Give the slots of patients who are known."""
        slots = np.empty(len(names), np.int64)
        find_all(self.store, np.frombuffer(b"".join(names), np.uint8), slots)
        return slots

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
