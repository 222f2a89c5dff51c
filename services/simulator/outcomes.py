"""What the registry tells, put between the messages of the ward in order of time."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from heapq import heappop, heappush

from services.simulator.messages import Message
from services.simulator.registry import Registry, Telling
from services.simulator.ward import Ward


def with_outcomes(
    ward: Ward,
    messages: Iterable[Message],
    registry: Registry,
    *,
    until: datetime | None = None,
) -> Iterator[Message]:
    """Put what the registry tells between the messages of a ward, in order of time.

    Args:
        ward: the one that gives the messages; its courses grow while it does.
        messages: of the ward, in order of time; taken one by one.
        registry: tells.
        until: what is told after the last message, up to then; None: nothing.
    """
    agenda: _Agenda | None = None
    for message in messages:
        agenda = agenda or _Agenda(ward, registry, message.time)
        yield from agenda.due(message.time)
        yield message
    if agenda and until:
        yield from agenda.due(until)


class _Agenda:
    """What is to be told next."""

    def __init__(self, ward: Ward, registry: Registry, began: datetime) -> None:
        self._ward, self._registry = ward, registry
        self._known = 0
        # Time, 1 for progress, which comes last; then which telling of which stay.
        first = (began + registry.progress_every, 1, 0, 0)
        self._next: list[tuple[datetime, int, int, int]] = [first]
        self._tellings: dict[int, list[Telling]] = {}
        """Of the stays of which not everything is told, by their place among the courses."""

    def due(self, now: datetime) -> Iterator[Message]:
        """Give everything up to a time."""
        self._hear_of_stays()
        while self._next[0][0] <= now:
            at, is_progress, place, number = heappop(self._next)
            if is_progress:
                heappush(self._next, (at + self._registry.progress_every, 1, 0, 0))
                yield self._registry.progress(at, self._through(at))
            else:
                yield self._tell(place, number)

    def _tell(self, place: int, number: int) -> Message:
        told = self._tellings[place]
        if number == len(told) - 1:
            del self._tellings[place]
        return self._registry.message(self._ward.courses[place], told[number])

    def _through(self, at: datetime) -> datetime:
        """Find the time before which no onset is left to be told: nobody else was there yet."""
        return min([at, *(self._ward.courses[place].admitted_at for place in self._tellings)])

    def _hear_of_stays(self) -> None:
        for place in range(self._known, len(self._ward.courses)):
            told = self._registry.of(self._ward.courses[place])
            self._tellings[place] = told
            for number, telling in enumerate(told):
                heappush(self._next, (telling.at, 0, place, number))
        self._known = len(self._ward.courses)
