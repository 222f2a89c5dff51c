"""The policy, as tables: scores in, decisions out."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.events import MICROSECONDS_PER_HOUR, Decision
from services.core.policy import (
    FRESH,
    ActiveAlert,
    Policy,
    PolicyState,
    decide,
    ended,
    expired,
    raised,
    withdrawn,
)

HOUR = MICROSECONDS_PER_HOUR
BASE = Policy(
    version="1",
    threshold=0.5,
    clear_below=0.3,
    refractory_h=6,
    valid_for_h=4,
    units={"MICU": 0.75, "ward": 0.25},
)


class Case(NamedTuple):
    """`given` are (hour, score) in order; `then` the decision on each, by its first letters."""

    law: str
    policy: dict[str, Any]
    given: list[tuple[float, float]]
    then: str
    unit: str = "SICU"


CASES = [
    Case("a score at the threshold raises", {}, [(0, 0.5)], "R"),
    Case("a score below the threshold does not", {}, [(0, 0.499)], "-"),
    Case("a unit has a threshold of its own", {}, [(0, 0.74), (1, 0.75)], "- R", "MICU"),
    Case("so does one that is lower", {}, [(0, 0.24), (1, 0.25)], "- R", "ward"),
    Case("an alert goes on until the score is below", {}, [(0, 0.5), (1, 0.4), (2, 0.3)], "R o o"),
    Case("it ends when the score falls below", {}, [(0, 0.5), (1, 0.29), (2, 0.1)], "R C -"),
    Case("no unit clears above its threshold", {}, [(0, 0.25), (1, 0.25)], "R o", "ward"),
    Case("a low threshold clears below itself", {}, [(0, 0.25), (1, 0.24)], "R C", "ward"),
    Case(
        "after an alert another waits for the refractory time",
        {},
        [(0, 0.9), (1, 0.1), (2, 0.9), (5.99, 0.9), (6, 0.9)],
        "R C r r R",
    ),
    Case(
        "the refractory time runs in event time, back as well",
        {},
        [(0, 0.9), (1, 0.1), (6, 0.4), (5, 0.9), (7, 0.9)],
        "R C - r R",
    ),
    Case(
        "without a refractory time the next score may raise",
        {"refractory_h": 0},
        [(0, 0.9), (0, 0.1), (0, 0.9)],
        "R C R",
    ),
    Case(
        "persistence asks for scores in a row",
        {"persistence": 3},
        [(0, 0.9), (1, 0.9), (2, 0.9)],
        "p p R",
    ),
    Case(
        "a low score begins the row anew",
        {"persistence": 2},
        [(0, 0.9), (1, 0.4), (2, 0.9), (3, 0.9)],
        "p - p R",
    ),
    Case(
        "persistence goes before the refractory time",
        {"persistence": 2},
        [(0, 0.9), (0, 0.9), (1, 0.1), (2, 0.9), (3, 0.9), (7, 0.9)],
        "p R C p r R",
    ),
]

LETTERS = {
    Decision.NONE: "-",
    Decision.RAISED: "R",
    Decision.ONGOING: "o",
    Decision.CLEARED: "C",
    Decision.HELD_PERSISTENCE: "p",
    Decision.HELD_REFRACTORY: "r",
}


def alert(at: int, policy: Policy = BASE) -> ActiveAlert:
    return ActiveAlert(
        alert_id=f"a{at}",
        raised_at=at,
        valid_until=policy.valid_until(at),
        score=0.9,
        threshold=0.5,
        unit="SICU",
        encounter=b"e" * 16,
    )


def follow(
    policy: Policy, scores: list[tuple[float, float]], unit: str
) -> tuple[list[Decision], PolicyState]:
    state, decisions = FRESH, []
    for hour, score in scores:
        at = round(hour * HOUR)
        verdict = decide(policy, state, score=float(np.float32(score)), at=at, unit=unit)
        state = verdict.state
        if verdict.decision is Decision.RAISED:
            state = raised(policy, state, alert(at, policy))
        decisions.append(verdict.decision)
    return decisions, state


@pytest.mark.parametrize("case", CASES, ids=[case.law for case in CASES])
def test_policy(case: Case) -> None:
    policy = msgspec.structs.replace(BASE, **case.policy)
    decisions, _ = follow(policy, case.given, case.unit)
    assert " ".join(LETTERS[decision] for decision in decisions) == case.then


def test_an_alert_is_valid_to_the_end_of_its_hours_and_expired_after() -> None:
    state = raised(BASE, FRESH, alert(0))
    assert [expired(state, t) for t in (0, 4 * HOUR, 4 * HOUR + 1)] == [False, False, True]
    assert not expired(FRESH, 4 * HOUR + 1)


def test_an_alert_that_ended_leaves_its_refractory_time() -> None:
    state = ended(raised(BASE, PolicyState(streak=4), alert(0)))
    assert state == PolicyState(streak=4, refractory_until=6 * HOUR)


def test_an_alert_that_was_withdrawn_leaves_nothing() -> None:
    assert withdrawn(raised(BASE, PolicyState(streak=4), alert(0))) == FRESH


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1, width=32))), st.integers(1, 3))
def test_between_two_alerts_one_ends_and_the_refractory_time_passes(
    scores: list[tuple[float, float]], persistence: int
) -> None:
    policy = msgspec.structs.replace(BASE, persistence=persistence)
    decisions, _ = follow(policy, scores, "SICU")
    open_since = None
    last = -100.0
    for (hour, score), decision in zip(scores, decisions, strict=True):
        if decision is Decision.RAISED:
            assert open_since is None
            assert hour >= last + policy.refractory_h
            assert score >= policy.threshold
            open_since, last = hour, hour
        elif decision is Decision.CLEARED:
            assert open_since is not None
            assert score < np.float32(policy.clear_below)
            open_since = None
        else:
            assert (decision is Decision.ONGOING) == (open_since is not None)


@given(st.floats(0, 1), st.floats(0, 1, width=32))
def test_a_decision_can_be_repeated_from_the_numbers_of_its_record(
    threshold: float, score: float
) -> None:
    policy = msgspec.structs.replace(BASE, threshold=threshold)
    verdict = decide(policy, FRESH, score=score, at=0, unit="")
    recorded = np.float32(policy.threshold_in(""))
    assert (verdict.decision is Decision.RAISED) == bool(np.float32(score) >= recorded)


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 1.1},
        {"clear_below": -0.1},
        {"units": {"MICU": 2}},
        {"persistence": 0},
        {"refractory_h": -1},
        {"valid_for_h": "long"},
        {"abstain": {"min_vitals": 0}},
        {"abstain": {"min_vital": 1}},
        {"treshold": 0.5},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    written = {"version": "1", "threshold": 0.5, "clear_below": 0.3}
    assert msgspec.convert(written, Policy).threshold == 0.5
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(written | change, Policy)
