"""Sensitivity and PPV of the demo's alerts as they really were: only the simulator knows."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from services.core.events import Alert
from services.core.labels import HORIZON_H
from services.core.stats.intervals import wilson
from services.simulator.truth import Truth
from services.simulator.ward import Course


class Ends(NamedTuple):
    """The whole days that the demo saw, event-world time; `end` is not in them."""

    start: datetime
    end: datetime

    def hold(self, at: datetime | None) -> bool:
        """Tell whether a time lies in them."""
        return at is not None and self.start <= at < self.end


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share of stays, with its 95 % score interval."""

    above: int
    below: int

    @property
    def value(self) -> float | None:
        """Between 0 and 1; None of nothing."""
        return self.above / self.below if self.below else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's."""
        return wilson(self.above, self.below)


def true_shares(
    raised: Iterable[Alert], courses: Iterable[Course], truth: Truth, *, ends: Ends
) -> dict[str, Share]:
    """Count each stay once, by its first alert and its onset, both within the period.

    The rules are those of `core.label_tallies`: an alert is true when the onset came after it and
    within the horizon; one after the onset is not counted; of the onsets those are found whose
    first alert was true.

    Args:
        raised: alerts, as a subscriber heard them.
        courses: of the ward.
        truth: whose stay an alert is about.
        ends: the period.
    """
    first = first_alerts(raised, truth)
    horizon = timedelta(hours=HORIZON_H)
    onsets = [c for c in courses if ends.hold(c.onset_at)]
    true = false = 0
    for course, seen_at in first.values():
        lead = course.onset_at - seen_at if course.onset_at else None
        if ends.hold(seen_at) and (lead is None or lead > timedelta(0)):
            timely = lead is not None and lead <= horizon
            true, false = true + timely, false + (not timely)
    found = sum(
        timedelta(0) < course.onset_at - first[course.encounter][1] <= horizon
        for course in onsets
        if course.onset_at and course.encounter in first
    )
    return {
        "sensitivity": Share(above=found, below=len(onsets)),
        "ppv": Share(above=true, below=true + false),
    }


def first_alerts(raised: Iterable[Alert], truth: Truth) -> dict[str, tuple[Course, datetime]]:
    """Find the first alert of each stay that the ward knows, and when it could be seen."""
    first: dict[str, tuple[Course, datetime]] = {}
    for alert in raised:
        course = truth.of(alert.encounter)
        if course is None:
            continue
        seen_at = moment(alert.received_at)
        known = first.get(course.encounter)
        if known is None or seen_at < known[1]:
            first[course.encounter] = course, seen_at
    return first


def moment(at_us: int) -> datetime:
    """Read µs since the epoch."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
