"""The truth of the demo counts as labels do; its signals are told in hours from the strike."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.demo.truth import Ends, first_alerts, true_shares
from services.cli.demo.watching import HOUR_US, found, variables_of
from services.core.events import Alert, HourLabel, Signal, SignalStep, State, Step
from services.core.label_tallies import counts_of
from services.core.labels import HORIZON_H
from services.core.pseudonyms import encounter_pseudonym
from services.simulator.story import TOLD, draw_story
from services.simulator.truth import Truth
from services.simulator.ward import Course

KEY = bytes(32)
START = datetime(2026, 1, 5, tzinfo=UTC)
ENDS = Ends(START, START + timedelta(days=7))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def course(name: str, onset_h: float | None) -> Course:
    onset = None if onset_h is None else START + timedelta(hours=onset_h)
    admitted, ended = START + timedelta(hours=1), START + timedelta(hours=150)
    return Course(f"p-{name}", name, "MICU", admitted, ended, onset, 0.0)


def alert(encounter: str, at_h: float) -> Alert:
    at = (START + timedelta(hours=at_h) - EPOCH) // timedelta(microseconds=1)
    return Alert(
        alert_id=f"20d3-0-{round(at_h * 100)}@1e6ed65d77d6",
        step=Step.RAISED,
        prediction_id="20d3-0-1@1e6ed65d77d6",
        pseudonym=bytes(16),
        encounter=encounter_pseudonym(KEY, "ward", encounter),
        unit="MICU",
        measured_at=at,
        received_at=at,
        accepted_at=at,
        valid_until=at,
        score=0.5,
        threshold=0.1,
        cause="threshold",
        policy_version="1",
        model_digest="00",
    )


def hour(lead_s: int | None, *, first: bool, onset: bool) -> HourLabel:
    return HourLabel(
        score=0.5,
        threshold=0.1,
        above=True,
        raised=first,
        first_alert=first,
        label=0,
        final=True,
        onset=onset,
        lead_s=lead_s,
        recognition_lead_s=None,
        treatment_lead_s=None,
        shown=True,
        answered_at=None,
        verdict="",
        reason="",
        acted_at=None,
        authority="final",
    )


@given(
    onset_h=st.none() | st.integers(2, 140),
    alert_h=st.none() | st.integers(2, 140),
)
def test_a_stay_counts_in_truth_as_it_counts_by_its_labels(
    onset_h: int | None, alert_h: int | None
) -> None:
    courses = [course("e", onset_h)]
    alerts = [] if alert_h is None else [alert("e", alert_h)]
    shares = true_shares(alerts, courses, Truth(courses, KEY), ends=ENDS)
    lead_s = None
    if onset_h is not None and alert_h is not None:
        lead_s = (onset_h - alert_h) * 3600
    told = []
    if alert_h is not None:
        told.append(counts_of(hour(lead_s, first=True, onset=False), HORIZON_H * 3600))
    if onset_h is not None:
        told.append(counts_of(hour(lead_s, first=False, onset=True), HORIZON_H * 3600))
    timely = sum(each.timely for each in told)
    onsets = timely + sum(each.early + each.missed for each in told)
    true = sum(each.first_true for each in told)
    called = true + sum(each.first_false for each in told)
    assert (shares["sensitivity"].above, shares["sensitivity"].below) == (timely, onsets)
    assert (shares["ppv"].above, shares["ppv"].below) == (true, called)


def test_only_the_first_alert_of_a_stay_counts_and_strangers_do_not() -> None:
    courses = [course("e", 50)]
    heard = [alert("e", 40), alert("e", 48), alert("stranger", 48)]
    first = first_alerts(heard, Truth(courses, KEY))
    assert [seen for _, seen in first.values()] == [START + timedelta(hours=40)]


def test_onsets_outside_the_days_that_were_seen_do_not_count() -> None:
    courses = [course("e", 50)]
    days = Ends(START, START + timedelta(days=2))
    share = true_shares([], courses, Truth(courses, KEY), ends=days)["sensitivity"]
    assert share.below == 0
    assert share.value is None


def signal(step: SignalStep, severity: State, start_h: int, feature: str = "MAP") -> Signal:
    return Signal(
        signal_id=f"drift-{feature}",
        step=step,
        kind="drift",
        severity=severity,
        metric="drift",
        feature=feature,
        cohort="all",
        start=start_h * HOUR_US,
        end=(start_h + 24) * HOUR_US,
        summary="",
        runbook="docs/runbooks/drift.md",
    )


@pytest.mark.parametrize(("start_h", "of_the_story"), [(48, False), (72, True), (96, True)])
def test_a_signal_is_about_the_story_when_its_window_ends_after_the_strike(
    start_h: int, *, of_the_story: bool
) -> None:
    steps = [signal(SignalStep.OPENED, State.WATCH, start_h)]
    (told,) = found(steps, 80 * HOUR_US, frozenset({"MAP"}))
    assert told.of_the_story is of_the_story
    assert told.after_h == start_h + 24 - 80


def test_a_signal_has_its_highest_severity_and_is_told_once_however_often_it_is_heard() -> None:
    opened = signal(SignalStep.OPENED, State.WATCH, 72)
    steps = [signal(SignalStep.CHANGED, State.ALARM, 96), opened, opened]
    (told,) = found(steps, 80 * HOUR_US, frozenset())
    assert told.severity == "alarm"
    assert not told.of_the_story


def test_every_story_that_can_be_drawn_changes_a_variable() -> None:
    assert all(variables_of(draw_story(1, 100, name)) for name in TOLD)
