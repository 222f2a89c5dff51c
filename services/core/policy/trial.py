"""What a policy would have told, had it judged what is on record."""

from collections import Counter
from typing import Final, NamedTuple

from services.core.events import MICROSECONDS_PER_HOUR, Alert, Decision, Step

HOURS_PER_100_DAYS: Final = 2400


class Told(NamedTuple):
    """What would have been told and held.

    Attributes:
        decisions: how many scores had each.
        steps: of alerts, those without a score too.
        broke_silence: of the alerts raised, those within the refractory time of another.
        encounters: of which one alert or more was raised.
        hours: of an encounter with a score.
    """

    decisions: Counter[Decision]
    steps: Counter[Step]
    broke_silence: int
    encounters: int
    hours: int

    @property
    def scores(self) -> int:
        """How many scores were judged."""
        return self.decisions.total()

    @property
    def per_100_days(self) -> float:
        """Alerts raised per 100 patient-days with a score in each hour; NaN without any."""
        many = self.steps[Step.RAISED] * HOURS_PER_100_DAYS
        return many / self.hours if self.hours else float("nan")


class Tally:
    """Counts what a policy tells, entry by entry."""

    def __init__(self) -> None:
        self._decisions, self._steps = Counter[Decision](), Counter[Step]()
        self._alerted, self._hours, self._broke = set[bytes](), set[tuple[bytes, int]](), 0

    def score(self, decision: Decision, *, encounter: bytes, at: int) -> None:
        """Count a score: what was decided, of which encounter, at which event time in µs."""
        self._decisions[decision] += 1
        self._hours.add((encounter, at // MICROSECONDS_PER_HOUR))

    def step(self, alert: Alert) -> None:
        """Count a step of an alert."""
        self._steps[alert.step] += 1
        if alert.step is Step.RAISED:
            self._alerted.add(alert.encounter)
            self._broke += alert.cause == "severity"

    def told(self) -> Told:
        """Give what was counted so far."""
        counters = Counter(self._decisions), Counter(self._steps)
        return Told(*counters, self._broke, len(self._alerted), len(self._hours))
