import itertools
from typing import Any

import numpy as np
import pytest
from batches import HOUR
from hypothesis import given
from hypothesis import strategies as st
from joining import at, done, feedback, outcome

from services.core.events import Authority, HourLabel, Verdict
from services.core.evidence import Answers, Settled, together, weightier
from services.core.labels import (
    LEFT_OUT,
    Known,
    RaisedAlert,
    Rule,
    Score,
    label_at,
    statements,
)
from services.core.stats.utility import before_onset

MODEL = ("ab" * 32, "1")
COHORTS = (("sex",), ("female",))


def known(hours: range, **more: Any) -> Known:
    fields: dict[str, Any] = {
        "began": at(hours.start),
        "scores": {at(hour): Score(0.25, 0.5, MODEL, COHORTS) for hour in hours},
        "alerts": [],
        "settled": None,
    }
    return Known(**(fields | more))


def raised(hours: float, *, late_h: float = 0, **more: Any) -> RaisedAlert:
    return RaisedAlert(f"alert {hours}", at(hours), at(hours + late_h), **more)


def settled(onset_h: float | None, **more: Any) -> Settled:
    onset_at = None if onset_h is None else at(onset_h)
    return Settled.of(outcome("o", 1, 100, onset_at=onset_at, **more))


def said(stay: Known, *, complete: int | None = None) -> dict[int, HourLabel]:
    found = statements(stay, stay.scores, Rule(), complete=complete)
    return {round((hour - at(0)) / HOUR): each.label for hour, each in found.items()}


@given(
    rows=st.integers(1, 60),
    switch=st.none() | st.integers(0, 59),
    minute=st.integers(0, 59),
)
def test_hours_are_labelled_as_the_rows_of_the_challenge_whatever_the_minute(
    rows: int, switch: int | None, minute: int
) -> None:
    septic = switch is not None and switch < rows
    label = np.arange(rows) >= (switch if switch is not None and septic else rows)
    starts = np.array([0, rows])
    counted = before_onset(label.astype(np.int8), starts)
    expected = np.where(counted, label, LEFT_OUT).tolist()

    onset_at = at(switch + 6 + minute / 60) if switch is not None and septic else None
    times = [at(row + minute / 60) for row in range(rows)]
    assert [label_at(time - time % HOUR, onset_at) for time in times] == expected


@given(switch=st.integers(0, 8))
def test_a_stay_is_flagged_if_and_only_if_its_first_row_is_positive(switch: int) -> None:
    labels = said(known(range(20), settled=settled(switch + 6)))
    flags = {label.from_start for label in labels.values()}
    assert flags == {labels[0].label == 1}


ANSWERS = st.builds(
    lambda name, hours, verdict, acted: Answers.of(
        feedback(
            name, 1, hours, verdict=verdict, actions=[done("lactate", acted)] if acted else []
        )
    ),
    st.text("ab", min_size=1, max_size=2),
    st.integers(0, 3),
    st.sampled_from(Verdict),
    st.none() | st.integers(1, 9),
)


@given(st.lists(ANSWERS, min_size=1, max_size=5, unique_by=lambda a: a.latest))
def test_answers_sum_up_to_the_same_in_any_order_and_grouping(answers: list[Answers]) -> None:
    def summed(parts: list[Answers]) -> Answers | None:
        total: Answers | None = None
        for part in parts:
            total = together(total, part)
        return total

    whole = summed(answers)
    assert whole is not None
    for order in itertools.permutations(answers):
        assert summed(list(order)) == whole
    for cut in range(len(answers)):
        assert together(summed(answers[:cut]), summed(answers[cut:])) == whole
    latest = max(answers, key=lambda a: a.latest)
    assert (whole.verdict, whole.latest) == (latest.verdict, latest.latest)
    assert whole.first_at == min(a.first_at for a in answers)
    assert whole.acted_at == min((a.acted_at for a in answers if a.acted_at), default=None)


OUTCOMES = st.builds(
    lambda name, authority, revision, onset: Settled.of(
        outcome(name, 1, 9, authority=authority, revision=revision, onset_at=onset)
    ),
    st.text("abc", min_size=1, max_size=3),
    st.sampled_from(Authority),
    st.integers(0, 2),
    st.none() | st.integers(0, 10**15),
)


@given(st.lists(OUTCOMES, min_size=1, max_size=5, unique_by=lambda o: o.outcome_id))
def test_the_outcome_in_force_does_not_depend_on_the_order_of_arrival(
    outcomes: list[Settled],
) -> None:
    def in_force(order: tuple[Settled, ...]) -> Settled | None:
        best: Settled | None = None
        for each in order:
            best = weightier(best, each)
        return best

    (one,) = {in_force(order) for order in itertools.permutations(outcomes)}
    assert one is not None
    ranks = ["clinician", "coded", "provisional", "final"]
    heaviest = max(ranks.index(each.authority) for each in outcomes)
    assert ranks.index(one.authority) == heaviest
    peers = [each for each in outcomes if each.authority == one.authority]
    assert one.revision == max(each.revision for each in peers)


@given(hours=st.integers(0, 200), complete=st.none() | st.integers(0, 400 * HOUR))
def test_a_label_is_final_when_every_onset_in_its_reach_would_have_been_told(
    hours: int, complete: int | None
) -> None:
    rule = Rule(lag=3 * HOUR)
    last_onset_that_matters = max(
        onset
        for onset in range(at(hours), at(hours + 9), HOUR // 4)
        if label_at(at(hours), onset) == 1
    )
    through = None if complete is None else at(0) + complete
    told = through is not None and last_onset_that_matters + HOUR // 4 + rule.lag <= through
    assert rule.mature(at(hours), through) == told


def test_without_an_outcome_a_label_is_zero_and_immature() -> None:
    label = said(known(range(3)), complete=at(3))[0]
    assert (label.label, label.final, label.authority) == (0, False, "")


def test_an_outcome_that_is_not_final_labels_but_does_not_finish() -> None:
    stay = known(range(10), settled=settled(8.5, authority=Authority.CODED))
    labels = said(stay)
    assert [label.label for label in labels.values()] == [0, 0, 1, 1, 1, 1, 1, 1, -1, -1]
    assert {(label.final, label.authority) for label in labels.values()} == {(False, "coded")}
    assert all(label.final for label in said(stay, complete=at(200)).values())


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_is_told_but_changes_no_label(verdict: Verdict) -> None:
    answers = Answers.of(feedback("f", 1, 3, verdict=verdict))
    stay = known(range(4), alerts=[raised(2.5, answers=answers)])
    labels = said(stay)
    assert {(label.label, label.final) for label in labels.values()} == {(0, False)}
    assert labels[2].verdict == verdict
    assert labels[2].authority == ("" if verdict is Verdict.UNSURE else "clinician")
    assert {labels[hour].authority for hour in (0, 1, 3)} == {""}
    assert said(stay, complete=at(200))[2].authority == ""


def test_leads_run_from_when_the_first_alert_could_be_seen() -> None:
    times = {"recognized_at": at(11), "treated_at": at(12)}
    stay = known(range(15), alerts=[raised(6), raised(4, late_h=1)], settled=settled(10, **times))
    labels = said(stay)
    leads = {h: (x.lead_s, x.recognition_lead_s, x.treatment_lead_s) for h, x in labels.items()}
    told = {hour: lead for hour, lead in leads.items() if lead != (None, None, None)}
    assert told == dict.fromkeys((4, 10), (5 * 3600, 6 * 3600, 7 * 3600))
    assert [hour for hour, label in labels.items() if label.raised] == [4, 6]
    assert [hour for hour, label in labels.items() if label.first_alert] == [4]


def test_a_missed_onset_has_no_lead_and_a_late_alert_a_negative_one() -> None:
    assert said(known(range(15), settled=settled(10)))[10].lead_s is None
    late = known(range(15), alerts=[raised(12)], settled=settled(10))
    assert said(late)[10].lead_s == said(late)[12].lead_s == -2 * 3600


def test_without_an_onset_nothing_leads() -> None:
    none = settled(None, recognized_at=at(9))
    label = said(known(range(9), alerts=[raised(6)], settled=none))[6]
    assert (label.lead_s, label.recognition_lead_s) == (None, None)


@given(onset=st.integers(-3, 30), first=st.integers(0, 5), hours=st.sets(st.integers(5, 20)))
def test_each_stay_with_an_onset_that_could_be_foreseen_is_marked_exactly_once(
    onset: int, first: int, hours: set[int]
) -> None:
    scores = {at(hour): Score(0.25, 0.5, MODEL, COHORTS) for hour in {first, *hours}}
    stay = known(range(first, first + 1), scores=scores, settled=settled(onset))
    marked = [hour for hour, label in said(stay).items() if label.onset]
    before = [hour for hour in {first, *hours} if hour <= onset]
    assert marked == ([max(before)] if before else [])
