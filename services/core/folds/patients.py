"""The patient-hours of one window as arrays: a slot per patient, a row of hours per slot."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.core.cohorts import GROUP_DIMENSIONS, UNKNOWN
from services.core.events import Decision
from services.core.folds.columns import Columns
from services.core.vitals import VITALS
from services.core.windows import HOUR, Window

_LEVEL: Final = 1
_RAISED: Final = int(Decision.RAISED)
_MARK: Final = struct.Struct(">q")
_FEW: Final = 8
_VITALS: Final = len(VITALS)
_BITS: Final = np.arange(_VITALS, dtype=np.uint64)
_ONE: Final = np.uint64(1)


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """A window's arrays in the form in which they are kept; bits are packed, floats by plane."""

    pseudonyms: bytes
    labels: list[str]
    cohorts: bytes
    raised: bytes
    abstained: bytes
    exists: bytes
    scored: bytes
    above: bytes
    present: bytes
    values: bytes
    moments: bytes


class PatientHours:
    """Everything that one partition knows of the patients of one window.

    Arrays have a row per slot; `len(self)` slots are in use.

    Args:
        window: of whole hours.

    Attributes:
        mark: the last offset that is counted in it.
    """

    def __init__(self, window: Window) -> None:
        self.window, self.mark = window, -1
        self.hours = window.length // HOUR
        self._slots: dict[bytes, int] = {}
        self._labels: dict[str, int] = {}
        self._allocate(_FEW)

    def __len__(self) -> int:
        return len(self._slots)

    def _allocate(self, room: int) -> None:
        cells = self.hours * _VITALS
        self._values = np.full((room, cells), np.nan, np.float32)
        self._moments = np.zeros((room, cells), np.uint32)  # µs within the hour
        self._exists = np.zeros((room, self.hours), bool)
        self._scored = np.zeros((room, self.hours), bool)
        self._above = np.zeros((room, self.hours), bool)
        self._raised = np.zeros(room, bool)
        self._abstained = np.zeros(room, bool)
        self._cohorts = np.zeros((room, len(GROUP_DIMENSIONS)), np.int32)

    def _grow(self) -> None:
        arrays = {name: old for name, old in vars(self).items() if isinstance(old, np.ndarray)}
        self._allocate(2 * len(self._raised))
        for name, old in arrays.items():
            getattr(self, name)[: len(old)] = old

    def _slot(self, pseudonym: bytes) -> int:
        slot = self._slots.get(pseudonym)
        if slot is None:
            slot = self._slots[pseudonym] = len(self._slots)
            if slot == len(self._raised):
                self._grow()
        return slot

    def add(self, columns: Columns, rows: NDArray[np.intp]) -> None:
        """Count entries of batches.

        Args:
            columns: of the batches.
            rows: the entries that lie in this window, rising.
        """
        names = columns.pseudonyms
        at = [self._slot(names[16 * row : 16 * row + 16]) for row in rows.tolist()]
        slots = np.array(at, np.intp)
        hours, moments = np.divmod(columns.measured_at[rows] - self.window.start, HOUR)
        scored = columns.scored[rows]
        self._scored[slots[scored], hours[scored]] = True
        above = columns.above[rows] & scored
        self._above[slots[above], hours[above]] = True
        self._raised[slots[columns.decisions[rows] == _RAISED]] = True
        self._abstained[slots[~scored]] = True
        codes = self._codes(columns.labels, set(columns.source[rows].tolist()))
        self._cohorts[slots] = codes[columns.cohorts[rows]]  # the last stays
        self._measure(columns, rows, slots, (hours, moments))

    def _codes(self, labels: Sequence[list[str]], there: AbstractSet[int]) -> NDArray[np.int32]:
        """Give the code of each label of the batches that are there; those of the others are 0."""
        known, codes = self._labels, list[int]()
        for place, names in enumerate(labels):
            if place in there:
                codes += [known.setdefault(name, len(known)) for name in names]
            else:
                codes += [0] * len(names)
        return np.array(codes, np.int32)

    def _measure(
        self,
        columns: Columns,
        rows: NDArray[np.intp],
        slots: NDArray[np.intp],
        times: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> None:
        """Keep of each vital sign in each hour the value measured last; of two the later entry."""
        bitmaps = np.where(columns.measures[rows], columns.bitmaps[rows], np.uint64(0))
        hours, moments = times
        exists = bitmaps != 0
        self._exists[slots[exists], hours[exists]] = True
        bits = (bitmaps[:, None] >> _BITS) & _ONE
        entry, vital = np.nonzero(bits)
        rank = np.cumsum(bits, axis=1, dtype=np.int64)[entry, vital] - 1
        values = columns.values[columns.first[rows][entry] + rank]
        cells = (slots[entry] * self.hours + hours[entry]) * _VITALS + vital
        order = np.argsort(moments[entry], kind="stable")
        cells, moment = cells[order], moments[entry][order]
        kept, since = self._values.reshape(-1), self._moments.reshape(-1)
        later = moment >= since[cells]  # no value: its moment is 0
        kept[cells[later]] = values[order][later]  # of one cell twice, the last is kept
        since[cells[later]] = moment[later]

    def pseudonyms(self) -> list[bytes]:
        """Everybody with an entry that counts, by order of slot."""
        return list(self._slots)

    def values(self) -> NDArray[np.float32]:
        """The last value of each vital sign in each hour, (slots, hours, vitals); NaN: none."""
        used = self._values[: len(self)]
        return used.reshape(len(self), self.hours, _VITALS)

    def exists(self) -> NDArray[np.bool_]:
        """Hours in which anything at all was measured, (slots, hours)."""
        return self._exists[: len(self)]

    def scored(self) -> NDArray[np.bool_]:
        """Hours with a score, (slots, hours)."""
        return self._scored[: len(self)]

    def above(self) -> NDArray[np.bool_]:
        """Hours in which a score reached its threshold, (slots, hours)."""
        return self._above[: len(self)]

    def raised(self) -> NDArray[np.bool_]:
        """For whom an alert was raised, (slots,)."""
        return self._raised[: len(self)]

    def abstained(self) -> NDArray[np.bool_]:
        """From whom scoring abstained at least once, (slots,)."""
        return self._abstained[: len(self)]

    def groups(self) -> Mapping[str, tuple[NDArray[np.int32], list[str]]]:
        """By dimension each patient's code, (slots,), at its last entry, and the codes' labels."""
        codes, labels = self._cohorts[: len(self)], list(self._labels)
        return {d: (codes[:, place], labels) for place, d in enumerate(GROUP_DIMENSIONS)}

    def pack(self) -> bytes:
        """Give the arrays as bytes; they start with the mark."""
        many = len(self)
        values = self._values[:many].reshape(-1)
        present = ~np.isnan(values)
        moments = np.diff(self._moments[:many].reshape(-1)[present], prepend=np.uint32(0))
        packed = _Packed(
            pseudonyms=b"".join(self._slots),
            labels=list(self._labels),
            cohorts=self._cohorts[:many].astype("<i4").tobytes(),
            raised=_bits(self.raised()),
            abstained=_bits(self.abstained()),
            exists=_bits(self.exists()),
            scored=_bits(self.scored()),
            above=_bits(self.above()),
            present=_bits(present),
            values=_planes(values[present].astype("<f4")),
            moments=_planes(moments.astype("<u4")),
        )
        return _MARK.pack(self.mark) + zlib.compress(msgspec.msgpack.encode(packed), _LEVEL)

    def unpack(self, row: bytes) -> None:
        """Take the arrays of `pack`; whatever was counted is replaced."""
        (self.mark,) = _MARK.unpack_from(row)
        packed = msgspec.msgpack.decode(zlib.decompress(row[_MARK.size :]), type=_Packed)
        names = packed.pseudonyms
        self._slots = {names[16 * i : 16 * i + 16]: i for i in range(len(names) // 16)}
        self._labels = {label: place for place, label in enumerate(packed.labels)}
        many, cells = len(self._slots), self.hours * _VITALS
        self._allocate(max(_FEW, many))
        self._unpack_cohorts(np.frombuffer(packed.cohorts, "<i4").reshape(many, -1))
        self._raised[:many] = _flags(packed.raised, many)
        self._abstained[:many] = _flags(packed.abstained, many)
        for kept, bits in self._hourly(packed):
            kept[:many] = _flags(bits, many * self.hours).reshape(many, self.hours)
        present = _flags(packed.present, many * cells)
        self._values[:many].reshape(-1)[present] = _numbers(packed.values, "<f4")
        moments = np.cumsum(_numbers(packed.moments, "<u4"), dtype=np.uint32)
        self._moments[:many].reshape(-1)[present] = moments

    def _unpack_cohorts(self, codes: NDArray[np.int32]) -> None:
        """Take what was kept; of dimensions that came since then nothing is known."""
        many, known = codes.shape
        if known < len(GROUP_DIMENSIONS) and many:
            self._cohorts[:many, known:] = self._labels.setdefault(UNKNOWN, len(self._labels))
        self._cohorts[:many, :known] = codes

    def _hourly(self, packed: _Packed) -> Iterable[tuple[NDArray[np.bool_], bytes]]:
        yield self._exists, packed.exists
        yield self._scored, packed.scored
        yield self._above, packed.above


def label_of(labels: list[str], code: int) -> str:
    """Name a cohort; none is unknown."""
    return labels[code] or UNKNOWN


def _bits(flags: NDArray[np.bool_]) -> bytes:
    return np.packbits(flags).tobytes()


def _flags(bits: bytes, count: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=count).view(bool)


def _planes(numbers: NDArray[np.float32] | NDArray[np.uint32]) -> bytes:
    """Four bytes each, all first bytes, all second bytes and so on: they compress better so."""
    return numbers.view(np.uint8).reshape(-1, 4).T.tobytes()


def _numbers(planes: bytes, layout: str) -> NDArray[np.float32] | NDArray[np.uint32]:
    return np.frombuffer(planes, np.uint8).reshape(4, -1).T.copy().view(layout).reshape(-1)
