"""What is true of a stay, found by the name it has outside the clinical zone."""

from collections.abc import Sequence
from typing import Final

from services.core.pseudonyms import encounter_pseudonym
from services.simulator.ward import Course

_SOURCE: Final = "ward"


class Truth:
    """The courses of a ward by pseudonym; only who has the key of the stack can make one.

    Args:
        courses: of the ward; may grow, in another thread too.
        key: the pseudonym key.
        source: under which the ward sends.
    """

    def __init__(self, courses: Sequence[Course], key: bytes, source: str = _SOURCE) -> None:
        self._courses, self._key, self._source = courses, key, source
        self._known = 0
        self._by_encounter: dict[bytes, Course] = {}

    def of(self, encounter: bytes) -> Course | None:
        """Give the course of an encounter, None where the ward knows of none."""
        while encounter not in self._by_encounter and self._known < len(self._courses):
            course = self._courses[self._known]
            name = encounter_pseudonym(self._key, self._source, course.encounter)
            self._by_encounter[name] = course
            self._known += 1
        return self._by_encounter.get(encounter)
