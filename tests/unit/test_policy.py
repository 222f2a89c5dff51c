"""The policy, as tables: scores in, decisions out."""

import re
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.events import MICROSECONDS_PER_HOUR, Decision
from services.core.policy import (
    FRESH,
    NEVER,
    ActiveAlert,
    Policy,
    PolicyState,
    Transfer,
    complaints,
    decide,
    ended,
    expired,
    moved,
    raised,
    read_policy,
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
    Case(
        "a score that reaches a step escalates, once per step",
        {"severity": [0.7, 0.9]},
        [(0, 0.5), (1, 0.7), (2, 0.8), (3, 0.6), (4, 0.7), (5, 0.9), (6, 1)],
        "R E o o o E o",
    ),
    Case(
        "within the refractory time a step above all that were told raises",
        {"severity": [0.7, 0.9]},
        [(0, 0.7), (1, 0.1), (2, 0.8), (3, 0.9), (4, 0.1), (5, 1), (8.99, 1), (9, 0.5)],
        "R C r R C r r R",
    ),
    Case(
        "an escalation lengthens no refractory time",
        {"severity": [0.7]},
        [(0, 0.5), (5, 0.7), (5.5, 0.1), (6, 0.5)],
        "R E C R",
    ),
    Case(
        "persistence goes before severity",
        {"severity": [0.7], "persistence": 2},
        [(0, 0.9), (1, 0.1), (2, 0.5), (3, 0.5), (4, 0.1), (5, 0.9), (5, 0.9)],
        "p - p R C p R",
    ),
    Case(
        "a score between two steps is at the lower one",
        {"severity": [0.7, 0.9]},
        [(0, 0.89), (1, 0.899), (2, 0.9)],
        "R o E",
    ),
]

LETTERS = {
    Decision.NONE: "-",
    Decision.RAISED: "R",
    Decision.ONGOING: "o",
    Decision.CLEARED: "C",
    Decision.HELD_PERSISTENCE: "p",
    Decision.HELD_REFRACTORY: "r",
    Decision.ESCALATED: "E",
    Decision.HELD_TRANSFER: "t",
}


def alert(at: int, policy: Policy = BASE, *, score: float = 0.9) -> ActiveAlert:
    return ActiveAlert(
        alert_id=f"a{at}",
        raised_at=at,
        valid_until=policy.valid_until(at),
        score=score,
        threshold=0.5,
        unit="SICU",
        encounter=b"e" * 16,
        severity=len(policy.steps_reached(score)),
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
            state = raised(policy, state, alert(at, policy, score=float(np.float32(score))))
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


STEPPED = msgspec.structs.replace(BASE, severity=[0.7, 0.9])


def worse(state: PolicyState, policy: Policy, score: float, at: int = 0) -> PolicyState:
    verdict = decide(policy, state, score=score, at=at, unit="SICU")
    assert verdict.decision is Decision.ESCALATED
    return verdict.state


def test_an_escalation_renews_the_validity_and_tells_how_many_steps_were_reached() -> None:
    state = raised(STEPPED, FRESH, alert(0, STEPPED, score=0.5))
    told = worse(state, STEPPED, 0.95, at=HOUR)
    assert told.alert is not None
    assert (told.alert.severity, told.alert.valid_until) == (2, 5 * HOUR)
    assert told.alert.raised_at == 0
    assert told.refractory_until == 6 * HOUR


def test_severity_rises_even_where_a_new_policy_numbers_its_steps_otherwise() -> None:
    state = worse(raised(STEPPED, FRESH, alert(0, STEPPED, score=0.5)), STEPPED, 0.95)
    fewer = msgspec.structs.replace(BASE, severity=[0.96875])
    told = worse(state, fewer, 1.0)
    assert told.alert is not None
    assert (told.alert.severity, told.step) == (3, 0.96875)


SICU = moved(BASE, FRESH, unit="SICU", at=0)
TO_ICU = msgspec.structs.replace(BASE, transfer=Transfer(to=["M?CU", "stepdown"], silent_h=4))


@pytest.mark.parametrize(
    ("before", "unit", "silent_until"),
    [
        (SICU, "MICU", 5 * HOUR),
        (SICU, "stepdown", 5 * HOUR),
        (SICU, "ward", NEVER),
        (SICU, "micu", NEVER),
        (SICU, "SICU", NEVER),
        (FRESH, "MICU", NEVER),
        (PolicyState(unit="MICU"), "MICU", NEVER),
        (PolicyState(unit="SICU", silent_until=9 * HOUR), "MICU", 9 * HOUR),
    ],
)
def test_silence_follows_a_transfer(before: PolicyState, unit: str, silent_until: int) -> None:
    after = moved(TO_ICU, before, unit=unit, at=HOUR)
    assert after == msgspec.structs.replace(before, unit=unit, silent_until=silent_until)


def test_a_transfer_that_silences_ends_the_alert_and_leaves_its_refractory_time() -> None:
    alerted = raised(TO_ICU, PolicyState(unit="SICU"), alert(0))
    assert moved(TO_ICU, alerted, unit="ward", at=HOUR).alert == alerted.alert
    silenced = moved(TO_ICU, alerted, unit="MICU", at=HOUR)
    assert (silenced.alert, silenced.refractory_until) == (None, 6 * HOUR)


def test_a_withdrawal_leaves_the_silence_after_a_transfer() -> None:
    state = PolicyState(unit="MICU", silent_until=HOUR, alert=alert(0), step=0.7)
    assert withdrawn(state) == PolicyState(unit="MICU", silent_until=HOUR)


def test_a_state_of_before_there_were_severity_and_transfer_can_be_read() -> None:
    old_alert = ["a", 1, 2, 0.5, 0.25, "MICU", b"e" * 16]
    old = msgspec.msgpack.decode(msgspec.msgpack.encode([2, 7, old_alert]), type=PolicyState)
    assert old.alert is not None
    assert (old.streak, old.refractory_until, old.alert.severity) == (2, 7, 0)
    assert (old.step, old.unit, old.silent_until) == (0.0, "", NEVER)


POLICIES = st.builds(
    lambda severity, persistence, refractory, units: msgspec.structs.replace(
        BASE, severity=severity, persistence=persistence, refractory_h=refractory, units=units
    ),
    st.lists(st.floats(0.5, 1), max_size=3).map(sorted),
    st.integers(1, 3),
    st.sampled_from([0.0, 6.0]),
    st.sampled_from([{}, {"MICU": 0.75}, {"MICU": 0.25}]),
)
STATES = st.builds(
    PolicyState,
    refractory_until=st.integers(-9, 9),
    step=st.sampled_from([0.0, 0.7]),
    unit=st.sampled_from(["", "MICU"]),
    silent_until=st.integers(-9, 9),
)
SCORES = st.floats(0, 1, width=32)


@given(POLICIES, STATES, SCORES, st.integers(-10, 10), st.sampled_from(["MICU", "SICU"]))
def test_a_score_below_the_threshold_changes_nothing_without_alert_and_streak(
    policy: Policy, state: PolicyState, score: float, at: int, unit: str
) -> None:
    verdict = decide(policy, state, score=score, at=at, unit=unit)
    if score < policy.threshold_in(unit):
        assert verdict == (Decision.NONE, state, "")
    else:
        assert verdict.decision is not Decision.NONE


SOUND = {"version": "1", "threshold": 0.5, "clear_below": 0.3}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": " "}, "version is empty"),
        ({"version": "v1\n"}, "version"),
        ({"version": "v" * 65}, "version"),
        ({"threshold": 0.0, "clear_below": 0}, "threshold must be above 0"),
        ({"units": {"MICU": 0}}, "the threshold of MICU must be above 0"),
        ({"units": {"": 0.5}}, "a unit without a name"),
        ({"clear_below": 0.51}, "clear_below must be at most the threshold"),
        ({"severity": [0.6, 0.6]}, "severity must rise"),
        ({"severity": [0.8, 0.6]}, "severity must rise"),
        ({"severity": [0.5]}, "severity must begin above the threshold"),
        ({"valid_for_h": 0}, "valid_for_h must be above 0"),
        ({"transfer": {"to": ["MICU"]}}, "transfer needs both"),
        ({"transfer": {"silent_h": 4}}, "transfer needs both"),
        ({"transfer": {"to": [""], "silent_h": 4}}, "a unit without a name"),
        ({"threshold": 1.1}, "$.threshold"),
        ({"severity": [1.5]}, "$.severity[0]"),
        ({"transfer": {"too": []}}, "too"),
        ({"persistence": 1.5}, "$.persistence"),
    ],
    ids=str,
)
def test_a_policy_that_contradicts_itself_is_refused_with_its_reason(
    change: dict[str, Any], complaint: str
) -> None:
    assert read_policy(msgspec.json.encode(SOUND)).threshold == 0.5
    with pytest.raises(ValueError, match=re.escape(complaint)):
        read_policy(msgspec.json.encode(SOUND | change))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"version": "1"}', b"\xff"])
def test_what_is_no_policy_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are those of the JSON reader
        read_policy(content)


def test_every_complaint_is_told_at_once() -> None:
    bad = msgspec.convert(SOUND | {"clear_below": 0.6, "valid_for_h": 0}, Policy)
    assert len(complaints(bad)) == 2


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
