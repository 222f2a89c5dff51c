"""An invented outcome registry: what it tells of each stay, when, and how it corrects itself.

Everything hangs on the seed and the stay alone. What it says last is the truth.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from services.core.events import Authority
from services.core.feedback import DEFINITIONS
from services.simulator.hospital import load
from services.simulator.messages import OUTCOMES, Message, instant
from services.simulator.ward import Course

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LANE: Final = "registry"
"""One lane for all of it: no progress is to overtake what it rests on."""
_VERSION: Final = "1"
_SUSPECTED_FOR_H: Final = 2.0
"""How long before it was told a false suspicion puts its onset."""


class Provisional(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told during the stay; `clinicians.toml` explains each number."""

    noticed: float
    suspected: float
    after_h: float
    spread: float
    wrong_time: float
    off_h: float
    revised: float
    revised_after_h: float


class Coded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told from the discharge codes."""

    sensitive: float
    specific: float
    after_h: float
    spread: float


class Adjudicated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told at the end."""

    from_h: float
    to_h: float
    revised: float
    off_h: float
    revised_after_h: float


class Care(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When somebody thought of it, and when treatment began after that."""

    recognized_h: float
    treated_h: float
    spread: float


class Habits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the registry tells."""

    progress_h: float
    provisional: Provisional
    coded: Coded
    final: Adjudicated
    care: Care


class _File(msgspec.Struct, frozen=True):
    registry: Habits


HABITS: Final = load("clinicians.toml", _File).registry


class Telling(NamedTuple):
    """What one authority says of a stay at one time; the last three as `core.events.Outcome`."""

    at: datetime
    authority: Authority
    revision: int
    onset_at: datetime | None
    recognized_at: datetime | None = None
    treated_at: datetime | None = None


class Registry:
    """Everybody who tells what became of patients.

    Args:
        seed: the same seed tells the same of the same stays.
        source: the sender's id; that of the ward, for patients have their ids there.
        scale: of every delay; 1/6 adjudicates 4 to 8 hours after the discharge.
        habits: how they tell.
    """

    def __init__(
        self, seed: int, *, source: str = "ward", scale: float = 1.0, habits: Habits = HABITS
    ) -> None:
        self._seed, self._source, self._scale, self._habits = seed, source, scale, habits

    def of(self, course: Course) -> list[Telling]:
        """Give all that is told of a stay, in order of time; the last is final and true."""
        digest = hashlib.sha256(f"{self._seed}/{course.encounter}".encode()).digest()
        care, early, codes, last = np.random.default_rng(list(digest)).spawn(4)
        final = list(self._final(last, course))
        before = [*self._provisional(early, course), self._coded(codes, course)]
        told = sorted(telling for telling in before if telling.at < final[0].at) + final
        recognized, treated = self._care(care, course)
        return [_with_care(telling, recognized, treated) for telling in told]

    def _provisional(self, rng: np.random.Generator, course: Course) -> Iterator[Telling]:
        habits = self._habits.provisional
        seen, off, revised, when = rng.random(4)
        after = self._lognormal(rng, habits.after_h, habits.spread)
        error_h = habits.off_h * float(rng.normal())
        if course.onset_at is None:
            if seen >= habits.suspected:
                return
            at = course.admitted_at + (course.ended_at - course.admitted_at) * when
            said = _within(course, at - timedelta(hours=_SUSPECTED_FOR_H))
        else:
            if seen >= habits.noticed:
                return
            wrong_h = error_h if off < habits.wrong_time else 0.0
            said = _within(course, course.onset_at + _hours(wrong_h))
            at = max(course.onset_at + after, said)
        yield Telling(at, Authority.PROVISIONAL, 1, said)
        if said != course.onset_at and revised < habits.revised:
            later = at + self._scaled(habits.revised_after_h)
            yield Telling(later, Authority.PROVISIONAL, 2, course.onset_at)

    def _coded(self, rng: np.random.Generator, course: Course) -> Telling:
        habits = self._habits.coded
        septic = course.onset_at is not None
        found = rng.random() < (habits.sensitive if septic else 1 - habits.specific)
        middle = course.admitted_at + (course.ended_at - course.admitted_at) / 2
        day = _within(course, _day(course.onset_at or middle))
        at = course.ended_at + self._lognormal(rng, habits.after_h, habits.spread)
        return Telling(at, Authority.CODED, 1, day if found else None)

    def _final(self, rng: np.random.Generator, course: Course) -> Iterator[Telling]:
        habits = self._habits.final
        after_h, revised = rng.uniform(habits.from_h, habits.to_h), rng.random()
        error = _hours(habits.off_h * float(rng.normal()))
        at = course.ended_at + self._scaled(after_h)
        if course.onset_at is None or revised >= habits.revised:
            yield Telling(at, Authority.FINAL, 1, course.onset_at)
            return
        yield Telling(at, Authority.FINAL, 1, _within(course, course.onset_at + error))
        later = at + self._scaled(habits.revised_after_h)
        yield Telling(later, Authority.FINAL, 2, course.onset_at)

    def _care(
        self, rng: np.random.Generator, course: Course
    ) -> tuple[datetime | None, datetime | None]:
        habits = self._habits.care
        thought, treated = np.exp(rng.normal(0, habits.spread, 2))
        if course.onset_at is None:
            return None, None
        recognized_at = course.onset_at + _hours(habits.recognized_h * thought)
        return recognized_at, recognized_at + _hours(habits.treated_h * treated)

    def _lognormal(self, rng: np.random.Generator, median_h: float, spread: float) -> timedelta:
        return self._scaled(median_h * float(np.exp(rng.normal(0, spread))))

    def _scaled(self, hours: float) -> timedelta:
        return _hours(self._scale * hours)

    @property
    def progress_every(self) -> timedelta:
        """How often it says up to when every onset is told."""
        return max(self._scaled(self._habits.progress_h), timedelta(minutes=1))

    def message(self, course: Course, telling: Telling) -> Message:
        """Write what is told of a stay as the gateway takes it."""
        return self._message(
            telling.at,
            f"{course.encounter}/{telling.authority}/{telling.revision}",
            {
                "patient": course.patient,
                "encounter": course.encounter,
                "authority": telling.authority,
                "revision": telling.revision,
                "onset_at": _written(telling.onset_at),
                "recognized_at": _written(telling.recognized_at),
                "treated_at": _written(telling.treated_at),
                "definition": DEFINITIONS[0],
                "definition_version": _VERSION,
            },
        )

    def progress(self, at: datetime, through: datetime) -> Message:
        """Write that every onset before a time is told."""
        return self._message(at, f"through/{at}", {"complete_through": instant(through)})

    def _message(self, at: datetime, name: str, said: dict[str, Any]) -> Message:
        # An id leaves the clinical zone: it must not tell which stay it is about.
        digest = hashlib.sha256(f"{self._seed}/{name}".encode()).hexdigest()[:16]
        return Message(
            source=self._source,
            time=at,
            lane=_LANE,
            body=msgspec.json.encode({"id": f"out-{digest}", **said}),
            entries=0,
            route=OUTCOMES,
        )


def _with_care(
    telling: Telling, recognized_at: datetime | None, treated_at: datetime | None
) -> Telling:
    """Add what was known of the care by then, where somebody saw an onset."""
    if telling.onset_at is None:
        return telling
    known = [at if at and at <= telling.at else None for at in (recognized_at, treated_at)]
    return telling._replace(recognized_at=known[0], treated_at=known[1])


def _within(course: Course, at: datetime) -> datetime:
    return min(max(at, course.admitted_at), course.ended_at)


def _day(at: datetime) -> datetime:
    return at - (at - _EPOCH) % timedelta(days=1)


def _hours(hours: float) -> timedelta:
    return timedelta(seconds=round(3600 * hours))


def _written(at: datetime | None) -> str | None:
    return instant(at) if at else None
