"""The life of an alert as the hospital hears of it."""

from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
import pytest
import wards
from hypothesis import given, settings
from hypothesis import strategies as st
from wards import (
    HOUR,
    MODEL,
    POLICY,
    START,
    Run,
    admitted,
    log,
    measured,
    person,
    replay,
    retracted,
    scorer,
    tick,
)

from services.core.events import Alert, Role, Step, Vitals
from services.core.policy import Policy
from services.scoring.outputs import ALERTS

HIGH, LOW, BETWEEN = 150.0, 60.0, 110.0


def beat(hour: float, rate: float, **more: Any) -> Vitals:
    return measured("p", START + round(hour * HOUR), {"HR": rate}, **more)


def steps(run: Run) -> list[tuple[str, str]]:
    return [(alert.step.value, alert.cause) for alert in run.alerts]


RAISED = ("raised", "threshold")
CLEARED = ("cleared", "score")
EXPIRED = ("cleared", "expired")
LEFT = ("cleared", "encounter_ended")
WITHDRAWN = ("withdrawn", "value_revised")
E1, E2 = person("e1"), person("e2")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([beat(0, LOW)], []),
        ([beat(0, HIGH), beat(1, HIGH), beat(2, BETWEEN)], [RAISED]),
        ([beat(0, HIGH), beat(1, LOW), beat(2, LOW)], [RAISED, CLEARED]),
        ([beat(0, HIGH), beat(0, LOW, version=2)], [RAISED, WITHDRAWN]),
        ([beat(0, HIGH), retracted("p", START, ["HR"])], [RAISED, WITHDRAWN]),
        ([beat(0, HIGH), beat(0, LOW, version=2), beat(1, HIGH)], [RAISED, WITHDRAWN, RAISED]),
        ([beat(0, HIGH), beat(0, HIGH + 1, version=2)], [RAISED]),
        ([beat(0, HIGH), beat(1, BETWEEN), beat(1, BETWEEN - 2, version=2)], [RAISED]),
        ([beat(0, HIGH), beat(1, BETWEEN), beat(1, LOW, version=2)], [RAISED, CLEARED]),
        ([beat(0, HIGH), tick(START + 6 * HOUR)], [RAISED]),
        ([beat(0, HIGH), tick(START + 6 * HOUR + 1)], [RAISED, EXPIRED]),
        ([beat(0, HIGH), tick(START + 7 * HOUR), tick(START + 8 * HOUR)], [RAISED, EXPIRED]),
        ([beat(0, HIGH), tick(START + 7 * HOUR), beat(8, HIGH)], [RAISED, EXPIRED, RAISED]),
        ([beat(0, HIGH, encounter=E1), beat(1, HIGH, encounter=E2)], [RAISED, LEFT, RAISED]),
        ([beat(0, HIGH, encounter=E1), admitted("p", START, "e2")], [RAISED, LEFT]),
        (
            [
                beat(0, HIGH, encounter=E1),
                admitted("p", START, "e1", "finished"),
                beat(0.5, HIGH, encounter=E1),
                admitted("p", START, "e1", "finished"),
            ],
            [RAISED, LEFT],
        ),
        ([beat(0, HIGH), beat(30, HIGH)], [RAISED, LEFT, RAISED]),
    ],
)
def test_life_of_an_alert(events: list[Vitals], expected: list[tuple[str, str]]) -> None:
    assert steps(replay(events)) == expected


def test_a_value_that_came_after_the_alert_did_not_cause_it() -> None:
    first = measured("p", START, {"HR": HIGH})
    later = measured("p", START + HOUR, {"HR": BETWEEN, "SBP": 90})
    gone = retracted("p", START + HOUR, ["SBP"])
    assert steps(replay([first, later, gone])) == [RAISED]
    gone_first = retracted("p", START, ["HR"])
    assert steps(replay([first, later, gone_first])) == [RAISED, WITHDRAWN]


def test_a_value_retracted_hours_later_still_takes_its_alert_back() -> None:
    at = START + 4 * HOUR
    gone = retracted("p", at, ["HR"], ids={"HR": f"p/{START}/HR"}, received_at=at)
    assert steps(replay([beat(0, HIGH), beat(1, BETWEEN), gone])) == [RAISED, WITHDRAWN]


def test_an_alert_says_what_was_known_when_it_was_raised() -> None:
    events = [admitted("p", START, "e1", unit="MICU"), beat(0, HIGH, encounter=E1)]
    run = replay(events)
    (alert,) = run.alerts
    offset = run.entries[-1]["offset"]
    assert alert == Alert(
        alert_id=f"00c7-3-{offset}@{MODEL.digest[:12]}",
        step=Step.RAISED,
        prediction_id=f"00c7-3-{offset}@{MODEL.digest[:12]}",
        pseudonym=person("p"),
        encounter=E1,
        unit="MICU",
        measured_at=START,
        received_at=START,
        accepted_at=START,
        valid_until=START + 6 * HOUR,
        score=0.75,
        threshold=float(np.float32(0.6)),
        cause="threshold",
        contributions=alert.contributions,
        policy_version="1",
        model_digest=MODEL.digest,
    )


def test_an_alert_tells_its_five_largest_contributions_largest_first() -> None:
    (alert,) = replay([measured("p", START, {"HR": HIGH, "SBP": 90.5})]).alerts
    moved = [abs(each.contribution) for each in alert.contributions]
    assert (alert.contributions[0].feature, alert.contributions[0].value) == ("HR_last", HIGH)
    assert moved == sorted(moved, reverse=True)
    assert len(moved) == 5
    by_name = {each.feature: each.value for each in alert.contributions}
    assert by_name["O2Sat_last"] is None


def test_later_steps_name_the_alert_its_encounter_and_its_unit() -> None:
    events = [
        admitted("p", START, "e1", unit="MICU"),
        beat(0, HIGH, encounter=E1),
        admitted("p", START + 1, "e1", unit="SICU"),
        beat(1, LOW, encounter=E1),
        beat(8, HIGH, encounter=E1),
        admitted("p", START + 9 * HOUR, "e2", unit="ward"),
    ]
    first, cleared, second, left = replay(events).alerts
    assert cleared.alert_id == first.alert_id
    assert (cleared.unit, cleared.encounter) == ("MICU", E1)
    assert (cleared.score, cleared.contributions) == (float(np.float32(0.3)), [])
    assert left.alert_id == second.alert_id
    assert (left.unit, left.encounter, left.score) == ("SICU", E1, second.score)
    assert left.prediction_id != second.prediction_id


def test_a_step_without_a_score_repeats_the_score_that_raised_the_alert() -> None:
    expiry = replay([beat(0, HIGH), tick(START + 7 * HOUR)]).alerts[-1]
    withdrawal = replay([beat(0, HIGH), retracted("p", START, ["HR"])]).alerts[-1]
    for alert in (expiry, withdrawal):
        assert (alert.score, alert.threshold) == (0.75, float(np.float32(0.6)))
    assert expiry.pseudonym == person("p")
    assert expiry.measured_at == START + 7 * HOUR


def test_the_encounter_after_one_with_an_alert_begins_without_silence() -> None:
    policy = msgspec.structs.replace(POLICY, refractory_h=24)
    run = replay([beat(0, HIGH, encounter=E1), beat(1, HIGH, encounter=E2)], policy)
    assert steps(run) == [RAISED, LEFT, RAISED]
    assert [a.encounter for a in run.alerts] == [E1, E1, E2]


def test_after_the_discharge_there_is_a_score_and_no_alert() -> None:
    finished = admitted("p", START, "e1", "finished")
    run = replay([beat(0, LOW, encounter=E1), finished, beat(0.5, HIGH, encounter=E1)])
    assert run.alerts == []
    assert run.entries[-1]["score"] == pytest.approx(0.75)
    assert run.entries[-1]["decision"] == "NONE"


def test_a_shadow_model_decides_and_tells_nobody() -> None:
    shadow = msgspec.structs.replace(MODEL, role=Role.SHADOW)
    told = wards.Kept()
    run = Run(scorer(model=shadow, told=told)).hand(log([beat(0, HIGH), beat(1, LOW)]))
    assert [entry["decision"] for entry in run.entries] == ["RAISED", "CLEARED"]
    assert run.alerts == told.alerts == []


def test_a_unit_is_held_to_its_own_threshold() -> None:
    policy = msgspec.structs.replace(POLICY, units={"MICU": 0.9})
    run = replay([admitted("p", START, "e1", unit="MICU"), beat(0, HIGH, encounter=E1)], policy)
    assert run.alerts == []
    assert run.entries[-1]["threshold"] == pytest.approx(0.9)


def test_the_envelope_of_an_alert_names_nobody() -> None:
    run = replay([beat(0, HIGH)])
    output = run.outputs[-1]
    headers = {name: (value or b"").decode() for name, value in output.headers}
    (alert,) = run.alerts
    assert (output.topic, output.key, output.partition) == (ALERTS, person("p"), 3)
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": f"{alert.alert_id}:raised",
        "ce_source": "/vigil/scoring",
        "ce_type": "vigil.alert.v1",
        "ce_time": "2026-01-01T08:00:00+00:00",
        "content-type": "application/avro",
    }


@st.composite
def courses(draw: st.DrawFn) -> list[Vitals]:
    """Two patients: rates around the threshold, revisions, moves, discharges, ticks."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    events: list[Vitals] = []
    at = START
    for _ in range(draw(st.integers(1, 40))):
        at += int(random.integers(0, 3 * HOUR))
        who = str(random.choice(["p", "q"]))
        encounter = f"{who}{random.integers(0, 2)}"
        match random.integers(0, 8):
            case 0:
                events.append(tick(at))
            case 1:
                status = str(random.choice(["in-progress", "finished"]))
                events.append(admitted(who, at, encounter, status, unit="MICU"))
            case 2 if events:
                old = events[random.integers(0, len(events))]
                if old.kind == "observation":
                    new = retracted(who, old.measured_at, ["HR"], encounter=old.encounter)
                    fields = {"pseudonym": old.pseudonym, "ids": old.ids}
                    events.append(msgspec.structs.replace(new, **fields))
            case _:
                rate = float(random.integers(60, 180))
                named = person(encounter) if random.random() < 0.8 else b""
                events.append(measured(who, at, {"HR": rate}, encounter=named))
    return events


POLICIES = st.builds(
    lambda refractory, valid, persistence: msgspec.structs.replace(
        POLICY, refractory_h=refractory, valid_for_h=valid, persistence=persistence
    ),
    st.sampled_from([0.0, 2.0, 12.0]),
    st.sampled_from([1.0, 6.0]),
    st.integers(1, 2),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(courses(), POLICIES)
def test_an_alert_is_raised_first_and_then_ends_once(events: list[Vitals], policy: Policy) -> None:
    run = replay([*events, tick(START + 9000 * HOUR)], policy)
    lives: dict[str, list[Step]] = defaultdict(list)
    for alert in run.alerts:
        lives[alert.alert_id].append(alert.step)
    for life in lives.values():
        assert life in ([Step.RAISED, Step.CLEARED], [Step.RAISED, Step.WITHDRAWN])
    decided = [entry for entry in run.entries if entry["decision"] == "RAISED"]
    assert len(decided) == len(lives)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(courses(), POLICIES)
def test_nobody_has_two_alerts_at_once(events: list[Vitals], policy: Policy) -> None:
    unended: dict[bytes, str] = {}
    for alert in replay(events, policy).alerts:
        if alert.step is Step.RAISED:
            assert alert.pseudonym not in unended
            unended[alert.pseudonym] = alert.alert_id
        else:
            assert unended.pop(alert.pseudonym) == alert.alert_id
