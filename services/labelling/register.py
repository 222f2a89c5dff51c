"""All stays of a partition: what changes them, and what has to be said of it afterwards."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from services.core.events import Alert, Feedback, Outcome
from services.core.evidence import Answers, Settled, together, weightier
from services.core.labels import RaisedAlert, Rule, Score, Statement, hour_of, statements
from services.core.windows import HOUR
from services.labelling.progress import Progress
from services.labelling.reading import Cohorts, Entry
from services.labelling.stays import Stay
from services.labelling.waiting import Mark
from services.runtime.ports import Row

T = TypeVar("T", bound=tuple[object, ...])


class Said(NamedTuple):
    """A statement about an hour that is due, with the one that it takes the place of."""

    hour: int
    key: bytes
    revision: int
    cohorts: Cohorts
    now: Statement
    before: Statement | None


class Register:
    """Stays by encounter and patient.

    What was said of an hour is not kept: it follows from the state, so whoever changes a stay
    looks at it before (`_touch`, `_look`), and `restated` says what is different afterwards.
    """

    def __init__(self, rule: Rule, progress: Progress) -> None:
        self.stays: dict[bytes, Stay] = {}
        self.rule = rule
        self._progress = progress
        self._alerts: dict[str, bytes] = {}
        self._untold: dict[int, set[bytes]] = {}
        self._before: dict[bytes, dict[int, Statement]] = {}
        self._changed: dict[bytes, None] = {}
        self._known: dict[tuple[object, ...], tuple[object, ...]] = {}
        self.heard: dict[bytes, bytes] = {}
        """Name and content mark of each answer and outcome that is not forgotten."""

    def load(self, key: bytes, row: bytes | None) -> None:
        """Take a row of the changelog; None deletes the stay."""
        if row is None:
            if key in self.stays:
                self._forget(key)
            return
        self.stays[key] = stay = Stay.unpack(row)
        self.heard |= stay.heard
        self._alerts |= dict.fromkeys(stay.alerts, key)
        for hour in stay.scores.untold():
            self._untold.setdefault(hour, set()).add(key)

    def changes(self) -> Iterable[Row]:
        """Give the row of each stay that changed since the last call."""
        changed, self._changed = self._changed, {}
        for key in changed:
            stay = self.stays.get(key)
            yield key, stay.pack() if stay else None

    def measure(self, entry: Entry, model: tuple[str, str]) -> None:
        """Take an entry of a batch: of an hour the highest score and the last cohorts count.

        The cohorts of an hour of which something was said stay as they are, so that a consumer
        takes out what it put in.
        """
        stay = self.stays.get(entry.key) or Stay()
        hour = hour_of(entry.measured_at)
        score = stay.scores.score(hour)
        fresh = _measured(score, entry, self._shared(model), self._shared(entry.cohorts))
        if fresh is score and stay.began <= hour <= stay.last:
            return
        if stay.awaits_onset(hour):
            self._touch(entry.key)
        elif score is not None and score.revision >= 0:
            self._look(entry.key, [hour])
        self._seen(entry.key, stay, entry.measured_at)
        if fresh is not None:
            stay.scores.put(hour, fresh)
        if score is None and fresh is not None:
            self._untold.setdefault(hour, set()).add(entry.key)

    def raise_alert(self, alert: Alert) -> bool:
        """Take an alert, and tell whether it was new."""
        if alert.alert_id in self._alerts:
            return False
        key = key_of(alert)
        stay = self.stays.get(key)
        if stay is None:
            stay = Stay()
        else:
            self._look(key, stay.bearing(hour_of(alert.measured_at)))
        self._seen(key, stay, alert.measured_at)
        stay.alerts[alert.alert_id] = RaisedAlert(
            alert.alert_id, alert.measured_at, alert.received_at
        )
        self._alerts[alert.alert_id] = key
        return True

    def answer(self, feedback: Feedback, mark: Mark) -> bool:
        """Take an answer, and tell whether its alert is known."""
        key = self._alerts.get(feedback.alert_id)
        if key is None:
            return False
        stay = self.stays[key]
        alert = stay.alerts[feedback.alert_id]
        self._look(key, [hour_of(alert.measured_at)])
        alert.answers = together(alert.answers, Answers.of(feedback))
        self._hear(key, stay, mark)
        return True

    def settle(self, outcome: Outcome, mark: Mark) -> bool:
        """Take an outcome, and tell whether its stay is known."""
        key = key_of(outcome)
        stay = self.stays.get(key)
        if stay is None:
            return False
        self._touch(key)
        stay.settled = weightier(stay.settled, Settled.of(outcome))
        self._hear(key, stay, mark)
        return True

    def complete(self, source: str, through: int) -> None:
        """Hear how far a source of outcomes is: hours may become final, or be it no more."""
        before, after = self._progress.complete, self._progress.completing(source, through)
        for key, stay in self.stays.items():
            turning = [
                hour
                for hour in stay.scores.told()
                if self.rule.mature(hour, before) != self.rule.mature(hour, after)
            ]
            if turning:
                self._look(key, turning)
        self._progress.hear(source, through)

    def follow(self, rule: Rule) -> None:
        """Go on by another rule than the one by which everything was said so far."""
        for key in self.stays:
            self._touch(key)
        self.rule = rule

    def restated(self) -> list[Said]:
        """Say what is different of hours of which something was said before."""
        looked, self._before = self._before, {}
        said = [each for key, before in looked.items() for each in self._differences(key, before)]
        return sorted(said, key=_place)

    def due(self, watermark: int) -> list[Said]:
        """Say, for the first time, what is known of hours that are over."""
        over = [hour for hour in self._untold if hour + HOUR <= watermark]
        pairs = [(hour, key) for hour in over for key in self._untold.pop(hour)]
        return [each for hour, key in sorted(pairs) for each in self._first(hour, key)]

    def evict(self, watermark: int) -> None:
        """Forget stays beyond reach."""
        for key in sorted(key for key, stay in self.stays.items() if stay.over(watermark)):
            self._forget(key)
            self._changed[key] = None

    def _forget(self, key: bytes) -> None:
        stay = self.stays.pop(key)
        for alert_id in stay.alerts:
            self._alerts.pop(alert_id, None)
        for name in stay.heard:
            self.heard.pop(name, None)

    def _first(self, hour: int, key: bytes) -> Iterator[Said]:
        stay = self.stays.get(key)
        if stay is not None and stay.scores.revision(hour) == -1:
            yield self._said(hour, key, self._statements(stay, [hour])[hour], None)

    def _differences(self, key: bytes, before: dict[int, Statement]) -> Iterator[Said]:
        now = self._statements(self.stays[key], before)
        for hour, old in before.items():
            if now[hour] != old:
                yield self._said(hour, key, now[hour], old)

    def _said(self, hour: int, key: bytes, now: Statement, before: Statement | None) -> Said:
        scores = self.stays[key].scores
        self._changed[key] = None
        return Said(hour, key, scores.tell(hour), scores[hour].cohorts, now, before)

    def _statements(self, stay: Stay, hours: Iterable[int]) -> dict[int, Statement]:
        return statements(stay.known(), hours, self.rule, complete=self._progress.complete)

    def _touch(self, key: bytes) -> None:
        """Look at all of a stay before it changes."""
        stay = self.stays.get(key)
        if stay is not None:
            self._look(key, stay.scores.told())

    def _look(self, key: bytes, hours: Iterable[int]) -> None:
        """Look at hours of a stay before something changes that shows there.

        Those of which nothing was said yet do not matter. What changed before, since something
        was said last, did not show in those that are new here.
        """
        stay, seen = self.stays[key], self._before.setdefault(key, {})
        new = [hour for hour in hours if hour not in seen and stay.scores.was_told(hour)]
        seen |= self._statements(stay, new)

    def _seen(self, key: bytes, stay: Stay, at: int) -> None:
        stay.seen(at)
        self.stays[key] = stay
        self._changed[key] = None

    def _hear(self, key: bytes, stay: Stay, mark: Mark) -> None:
        stay.heard[mark.name] = mark.content
        self._changed[key] = None

    def _shared(self, value: T) -> T:
        """Give the one copy of what thousands of hours have in common."""
        return self._known.setdefault(value, value)  # type: ignore[return-value]  # it equals it


def key_of(event: Alert | Outcome) -> bytes:
    """Give the key of the stay that an event is about."""
    return event.encounter + event.pseudonym


def _measured(
    score: Score | None, entry: Entry, model: tuple[str, str], cohorts: Cohorts
) -> Score | None:
    if entry.score is None:
        return score
    value, threshold = entry.score
    if score is None:
        return Score(value, threshold, model, cohorts)
    if value > score.score:
        score = msgspec.structs.replace(score, score=value, threshold=threshold, model=model)
    if score.revision < 0 and score.cohorts != cohorts:
        score = msgspec.structs.replace(score, cohorts=cohorts)
    return score


def _place(said: Said) -> tuple[int, bytes]:
    return said.hour, said.key
