"""What is known of the hours of a stay: label, maturity, exposure and lead, whatever came when.

The default definition is physionet-2019 (Reyna et al., Crit Care Med 2020;48(2):210-217): a row is
positive from six hours before onset on, and only the challenge's utility counts rows at or after
onset. Hours are UTC hours here, as rows are there: what falls into an hour counts as at its begin.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from services.core.events import Authority, HourLabel, Verdict
from services.core.evidence import Answers, Settled, together
from services.core.windows import HOUR

DEFINITION: Final = "physionet-2019"
"""What time zero means where no outcome says otherwise."""
HORIZON_H: Final = 6
"""H: the label is 1 in so many hours before the hour of onset."""
LEFT_OUT: Final = -1
"""The label of hours at and after onset, which no metric but the utility counts."""
_EVIDENCE: Final = frozenset({Verdict.CONFIRMED, Verdict.DISMISSED})
_SECOND: Final = 1_000_000


class RaisedAlert(msgspec.Struct, array_like=True):
    """An alert that was raised, and what was answered to it."""

    alert_id: str
    measured_at: int  # µs: the hour it stands in
    seen_at: int  # µs: when it could be seen, which is when its values had reached us
    answers: Answers | None = None


class Score(msgspec.Struct):
    """The highest score of an hour; `cohorts` are those of the hour's last score."""

    score: float
    threshold: float
    model: tuple[str, str]  # digest of the model, version of the policy
    cohorts: tuple[tuple[str, ...], tuple[str, ...]]  # dimensions, and a label of each
    revision: int = -1  # last told; -1: not yet


class Statement(NamedTuple):
    """What is said of one hour at one time."""

    label: HourLabel
    definition: str
    model: tuple[str, str]


class Rule(NamedTuple):
    """How labels are made, all in µs.

    Attributes:
        horizon: H.
        lag: how long after the horizon a complete source is still given.
    """

    horizon: int = HORIZON_H * HOUR
    lag: int = 72 * HOUR

    def matures_at(self, hour: int) -> int:
        """Up to where outcomes must be complete for the label of an hour to be final.

        The hour's end counts: an onset late in the last hour of the horizon makes it positive.
        """
        return hour + HOUR + self.horizon + self.lag

    def mature(self, hour: int, complete: int | None) -> bool:
        """Tell whether outcomes complete up to a time make the label of an hour final."""
        return complete is not None and self.matures_at(hour) <= complete


class Known(NamedTuple):
    """All that is known of a stay.

    Attributes:
        began: begin of the first hour in which something was measured, µs.
        scores: by begin of the hour, µs.
        alerts: that were raised.
        settled: the outcome in force, if any.
    """

    began: int
    scores: Mapping[int, Score]
    alerts: Collection[RaisedAlert]
    settled: Settled | None


def hour_of(at: int) -> int:
    """Give the begin of the UTC hour of a time, both in µs."""
    return at - at % HOUR


def label_at(hour: int, onset_at: int | None, *, horizon: int = HORIZON_H * HOUR) -> int:
    """Label an hour: 1 in the hours of the horizon before that of onset, then -1, else 0.

    Args:
        hour: its begin, µs.
        onset_at: µs; None: there was none.
        horizon: whole hours, µs.

    >>> onset_at = 8 * HOUR + 17
    >>> [label_at(hour * HOUR, onset_at) for hour in (1, 2, 7, 8, 9)]
    [0, 1, 1, -1, -1]
    """
    if onset_at is None or hour_of(onset_at) > hour + horizon:
        return 0
    return 1 if hour_of(onset_at) > hour else LEFT_OUT


def first_of(alerts: Iterable[RaisedAlert]) -> RaisedAlert | None:
    """Give the alert that could be seen first."""
    return min(alerts, key=_seen, default=None)


def statements(
    known: Known, hours: Iterable[int], rule: Rule, *, complete: int | None
) -> dict[int, Statement]:
    """Say what is known of hours that have a score.

    Args:
        known: of the stay.
        hours: begin of each, µs.
        rule: how labels are made.
        complete: up to where the sources of outcomes have told everything, µs; None: unknown.
    """
    view = _View(known, rule, complete)
    return {hour: view.statement(hour) for hour in hours}


class _View:
    """A stay as a whole: what an hour cannot know by itself."""

    def __init__(self, known: Known, rule: Rule, complete: int | None) -> None:
        self._known, self._rule, self._complete = known, rule, complete
        self._settled = settled = known.settled
        self._first = first_of(known.alerts)
        self._alerts: dict[int, list[RaisedAlert]] = {}
        for alert in known.alerts:
            self._alerts.setdefault(hour_of(alert.measured_at), []).append(alert)
        onset_at = self._onset_at = settled.onset_at if settled else None
        self._onset_hour: int | None = None
        if onset_at is not None:
            candidates = (hour for hour in known.scores if hour <= onset_at)
            self._onset_hour = max(candidates, default=None)
        self._from_start = onset_at is not None and hour_of(onset_at) - rule.horizon <= known.began

    def statement(self, hour: int) -> Statement:
        score, settled = self._known.scores[hour], self._settled
        definition = settled.definition if settled else DEFINITION
        return Statement(self._label(hour, score), definition, score.model)

    def _label(self, hour: int, score: Score) -> HourLabel:
        alerts = self._alerts.get(hour, [])
        answers: Answers | None = None
        for alert in alerts:
            answers = together(answers, alert.answers)
        final = self._final(hour)
        first = self._first is not None and hour_of(self._first.measured_at) == hour
        leads = self._leads() if first or hour == self._onset_hour else (None, None, None)
        return HourLabel(
            score=score.score,
            threshold=score.threshold,
            above=score.score >= score.threshold,
            raised=bool(alerts),
            first_alert=first,
            label=label_at(hour, self._onset_at, horizon=self._rule.horizon),
            final=final,
            onset=hour == self._onset_hour,
            lead_s=leads[0],
            recognition_lead_s=leads[1],
            treatment_lead_s=leads[2],
            shown=answers is not None,
            answered_at=answers.first_at if answers else None,
            verdict=answers.verdict if answers else "",
            reason=answers.reason if answers else "",
            acted_at=answers.acted_at if answers else None,
            authority=self._authority(answers, final=final),
            from_start=self._from_start,
        )

    def _final(self, hour: int) -> bool:
        if self._settled is not None and self._settled.authority is Authority.FINAL:
            return True
        return self._rule.mature(hour, self._complete)

    def _authority(self, answers: Answers | None, *, final: bool) -> str:
        """Say who spoke; a verdict is evidence, but names no onset: it changes no label."""
        if self._settled is not None:
            return self._settled.authority
        spoke = answers is not None and answers.verdict in _EVIDENCE
        return Authority.CLINICIAN if spoke and not final else ""

    def _leads(self) -> tuple[int | None, int | None, int | None]:
        """Seconds from the first alert to onset, recognition, treatment of a stay with onset."""
        settled, first = self._settled, self._first
        if settled is None or first is None or settled.onset_at is None:
            return None, None, None
        ends = (settled.onset_at, settled.recognized_at, settled.treated_at)
        onset, recognized, treated = (
            None if end is None else (end - first.seen_at) // _SECOND for end in ends
        )
        return onset, recognized, treated


def _seen(alert: RaisedAlert) -> tuple[int, str]:
    return alert.seen_at, alert.alert_id
