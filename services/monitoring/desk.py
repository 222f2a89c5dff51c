"""The tasks of the partitions that one worker holds, and what it owes the log for them.

Order is everything here: outputs are durable before the rows that say so, and rows before the
records that they count are acknowledged. After a death in between records are handed out again;
they are not counted twice, because every row knows through which offset it has counted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from services.runtime.ports import Output, Record, Row, Task

Place = tuple[str, int]
"""A topic and one of its partitions."""
MakeTask = Callable[[int], Task]
Acknowledge = Callable[[], object]
MARK_BYTES: Final = 8
FULL_RECORDS: Final = 5000
"""Records after which a flush does not wait for its time: what a crash reads again at most."""


class StateRow(msgspec.Struct, frozen=True):
    """A row of a task as the changelog of its topic holds it; no value deletes the key."""

    place: Place
    key: bytes
    value: bytes | None


class Wire(Protocol):
    """What a desk writes to; both return when the cluster holds everything."""

    def publish(self, outputs: Sequence[Output]) -> Awaitable[None]:
        """Write outputs to their topics."""

    def keep(self, rows: Sequence[StateRow]) -> Awaitable[None]:
        """Write rows to the partitions of the changelogs that belong to their places."""


class Meter(Protocol):
    """What a desk tells about itself; must not raise and not block."""

    def handled(self, records: Sequence[Record], outputs: Sequence[Output]) -> None:
        """Records of a partition went through their task."""

    def committed(self, seconds: float) -> None:
        """Everything handled is durable, so long after the first of it was handled."""


@dataclass(slots=True)
class _Seat:
    task: Task
    position: int = -1  # last offset handled
    moved: bool = False  # since its rows were last kept


class Desk:
    """Hands records to the tasks of their partitions and settles what follows from them."""

    def __init__(
        self,
        makers: Mapping[str, MakeTask],
        wire: Wire,
        *,
        meter: Meter,
        clock: Callable[[], float],
        singly: AbstractSet[str] = frozenset(),
    ) -> None:
        """Begin without a partition.

        Args:
            makers: per topic what makes an empty task for a partition number.
            wire: where outputs and rows go.
            meter: hears about progress.
            clock: monotonic seconds; for the meter alone.
            singly: topics of whose records the meter wants to hear what each of them led to.
        """
        self._makers, self._wire, self._meter, self._clock = makers, wire, meter, clock
        self._singly = singly
        self._seats: dict[Place, _Seat] = {}
        self._outputs: list[Output] = []
        self._unsettled: list[Acknowledge] = []
        self._handled = 0
        self._began = 0.0
        self._life = 0
        self._turn = asyncio.Lock()

    @property
    def topics(self) -> frozenset[str]:
        """Whose records are wanted."""
        return frozenset(self._makers)

    @property
    def full(self) -> bool:
        """Whether a flush is due whatever the time."""
        return self._handled >= FULL_RECORDS

    def position(self, place: Place) -> int | None:
        """Say which offset of a partition was handled last; None where none was."""
        seat = self._seats.get(place)
        return None if seat is None or seat.position < 0 else seat.position

    def open(self, places: Iterable[Place], rows: Iterable[tuple[bytes, bytes]]) -> int:
        """Begin anew with these partitions and what their changelogs hold; nothing older lives on.

        Args:
            places: that are held.
            rows: what `standing` made of the changelogs.

        Returns:
            How many rows were loaded.
        """
        self.close()
        self._seats = {place: _Seat(self._makers[place[0]](place[1])) for place in places}
        loaded = 0
        for stored, value in rows:
            place, key = split(stored)
            if place in self._seats:
                self._seats[place].task.load(key, value[MARK_BYTES:])
                loaded += 1
        return loaded

    def close(self) -> None:
        """Forget everything that is not settled: the partitions move, and it is read again."""
        self._life += 1
        self._outputs, self._unsettled, self._seats, self._handled = [], [], {}, 0

    def take(self, run: Sequence[Record], acknowledge: Acknowledge) -> None:
        """Hand records of a partition to its task; whatever that raises ends the process.

        Args:
            run: at least one record, in order.
            acknowledge: all of them.
        """
        seat = self._seats.get((run[0].topic, run[0].partition))
        if seat is None or run[-1].offset <= seat.position:
            return  # of a partition that has moved on, or handed out again within this life
        if not self._unsettled:
            self._began = self._clock()
        fresh = [record for record in run if record.offset > seat.position]
        for records in [[record] for record in fresh] if run[0].topic in self._singly else [fresh]:
            self._hand(seat, records)
        self._unsettled.append(acknowledge)

    def _hand(self, seat: _Seat, records: Sequence[Record]) -> None:
        outputs = list(seat.task.handle(records))
        seat.position, seat.moved = records[-1].offset, True
        self._outputs += outputs
        self._handled += len(records)
        self._meter.handled(records, outputs)

    async def publish(self) -> None:
        """Write the outputs so far, so that readers need not wait for a flush."""
        async with self._turn:
            if self._outputs:
                outputs, self._outputs = self._outputs, []
                await self._wire.publish(outputs)

    async def settle(self) -> None:
        """Flush: write outputs, then rows, then acknowledge the records behind them."""
        async with self._turn:
            if not self._unsettled:
                return
            life, began = self._life, self._began
            outputs, self._outputs = self._outputs, []
            unsettled, self._unsettled = self._unsettled, []
            self._handled = 0
            rows = list(self._changes())
            await self._wire.publish(outputs)
            if life != self._life:
                return  # begun anew meanwhile, here or elsewhere, from the rows of before
            await self._wire.keep(rows)
            for acknowledge in unsettled:
                acknowledge()
            self._meter.committed(self._clock() - began)

    def _changes(self) -> Iterator[StateRow]:
        for place, seat in self._seats.items():
            if seat.moved:
                seat.moved = False
                mark = seat.position.to_bytes(MARK_BYTES, "big")
                for key, value in seat.task.changes():
                    marked = None if value is None else mark + value
                    yield StateRow(place, join(place, key), marked)


def join(place: Place, key: bytes) -> bytes:
    """Name a task's row in a changelog that several topics share.

    >>> join(("predictions.v1", 3), b"day")
    b'predictions.v1/3/day'
    """
    return f"{place[0]}/{place[1]}/".encode() + key


def split(stored: bytes) -> tuple[Place, bytes]:
    """Take a name apart that `join` made.

    >>> split(b"predictions.v1/3/a/b")
    (('predictions.v1', 3), b'a/b')
    """
    topic, partition, key = stored.split(b"/", 2)
    return (topic.decode(), int(partition)), key


def standing(rows: Iterable[Row]) -> dict[bytes, bytes]:
    """Take the rows of changelogs, oldest first; of each key the one counted furthest stands."""
    stands: dict[bytes, bytes] = {}
    for stored, value in rows:
        if value is None:
            stands.pop(stored, None)
        elif newer(stands.get(stored), value):
            stands[stored] = value
    return stands


def newer(stored: bytes | None, value: bytes) -> bool:
    """Say whether a row read from a changelog replaces the one in hand.

    A process that was frozen may write a row long after another took its partitions over: such a
    row stands later in the log and was counted to an earlier offset.
    """
    return stored is None or value[:MARK_BYTES] >= stored[:MARK_BYTES]
