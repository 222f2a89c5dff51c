"""The scores of a stay by hour, kept as the columns in which they are written.

A stay is written each time one of its hours changes: so nothing is done for the others then.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

from typing_extensions import override

from services.core.labels import Score
from services.core.windows import HOUR
from services.labelling.reading import Cohorts

T = TypeVar("T")

_SHIFT: Final = 16
_LOW: Final = (1 << _SHIFT) - 1


class Columns(NamedTuple):
    """What is written: an element per hour, rising; numbers little-endian."""

    models: list[tuple[str, str]]
    cohorts: list[Cohorts]
    hours: bytes  # i4, since the epoch
    scores: bytes  # f4
    thresholds: bytes  # f4
    revisions: bytes  # i4
    places: bytes  # u2 each: of the model, of the cohorts


class Hours(Mapping[int, Score]):
    """Scores by begin of the hour, µs. What is given is a copy."""

    __slots__ = (
        "_cohorts",
        "_hours",
        "_models",
        "_places",
        "_revisions",
        "_scores",
        "_thresholds",
    )

    def __init__(self, columns: Columns | None = None) -> None:
        kept = columns or Columns([], [], b"", b"", b"", b"", b"")
        self._models, self._cohorts = kept.models, kept.cohorts
        self._hours, self._revisions = array("i", kept.hours), array("i", kept.revisions)
        self._scores, self._thresholds = array("f", kept.scores), array("f", kept.thresholds)
        self._places = array("I", kept.places)

    def columns(self) -> Columns:
        """Give what is to be written."""
        return Columns(
            self._models,
            self._cohorts,
            self._hours.tobytes(),
            self._scores.tobytes(),
            self._thresholds.tobytes(),
            self._revisions.tobytes(),
            self._places.tobytes(),
        )

    @override
    def __len__(self) -> int:
        return len(self._hours)

    @override
    def __iter__(self) -> Iterator[int]:
        return (hour * HOUR for hour in self._hours)

    @override
    def __getitem__(self, hour: int) -> Score:
        found = self.score(hour)
        if found is None:
            raise KeyError(hour)
        return found

    def score(self, hour: int) -> Score | None:
        """Give the score of an hour, if there is one; an hour that is new raises nothing."""
        at = self._at(hour)
        if at is None:
            return None
        place = self._places[at]
        return Score(
            self._scores[at],
            self._thresholds[at],
            self._models[place & _LOW],
            self._cohorts[place >> _SHIFT],
            self._revisions[at],
        )

    def put(self, hour: int, score: Score) -> None:
        """Take the score of an hour in the place of the one before."""
        place = _place(self._models, score.model) | _place(self._cohorts, score.cohorts) << _SHIFT
        at, since = self._at(hour), hour // HOUR
        if at is None:
            at = bisect_left(self._hours, since)
            self._hours.insert(at, since)
            for column in (self._scores, self._thresholds, self._revisions, self._places):
                column.insert(at, 0)
        self._scores[at], self._thresholds[at] = score.score, score.threshold
        self._revisions[at], self._places[at] = score.revision, place

    def revision(self, hour: int) -> int | None:
        """Give the number of what was said of an hour last; -1: nothing yet; None: no score."""
        at = self._at(hour)
        return None if at is None else self._revisions[at]

    def was_told(self, hour: int) -> bool:
        """Tell whether something was said of an hour."""
        revision = self.revision(hour)
        return revision is not None and revision >= 0

    def tell(self, hour: int) -> int:
        """Count one more revision of an hour that has a score, and give its number."""
        at = bisect_left(self._hours, hour // HOUR)
        self._revisions[at] += 1
        return self._revisions[at]

    def told(self) -> list[int]:
        """Give the hours of which something was said already."""
        return [hour * HOUR for hour, revision in self._revised() if revision >= 0]

    def untold(self) -> list[int]:
        """Give the hours of which nothing was said yet."""
        return [hour * HOUR for hour, revision in self._revised() if revision < 0]

    def _revised(self) -> Iterator[tuple[int, int]]:
        return zip(self._hours, self._revisions, strict=True)

    def _at(self, hour: int) -> int | None:
        since = hour // HOUR
        at = bisect_left(self._hours, since)
        found = at < len(self._hours) and self._hours[at] == since
        return at if found else None


def _place(names: list[T], name: T) -> int:
    """Give the place of a name, which is new at the most once in a while."""
    for place in range(len(names) - 1, -1, -1):
        if names[place] == name:
            return place
    names.append(name)
    return len(names) - 1
