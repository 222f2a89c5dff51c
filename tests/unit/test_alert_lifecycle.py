"""The policy's specification: a table of stories and what the hospital is told, then its laws."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lifecycles import events_of, told
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
    retracted,
    scorer,
    tick,
)

from services.core.events import Alert, Disposition, Kind, Step, Vitals, alert_event_id
from services.core.policy import Policy, Transfer
from services.runtime.ports import Record
from services.scoring.alerting import Alerting
from services.scoring.entries import Entry
from services.scoring.showing import Showing

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class Row(NamedTuple):
    """`law` in a sentence; what the policy says beyond .60/.50; the story; what was told."""

    law: str
    policy: dict[str, Any]
    story: str
    told: str


STEPS = {"severity": [0.7, 0.8]}
ICU = {"transfer": Transfer(to=["*ICU", "stepdown"], silent_h=4)}

TABLE = [
    # raised, cleared -------------------------------------------------------------------------
    Row(
        "a score at the threshold raises, one below clear_below clears",
        {},
        "0h .59, 1h .60, 2h .55, 3h .50, 4h .49, 5h .30",
        "1h A raised threshold, 4h A cleared score",
    ),
    Row(
        "a unit has a threshold of its own",
        {"units": {"MICU": 0.75}},
        "0h to MICU, 1h .70, 2h .75",
        "2h A raised threshold",
    ),
    Row(
        "a move changes the threshold, not the alert",
        {"units": {"MICU": 0.75}},
        "0h to ward, 1h .65, 2h to MICU, 3h .65, 4h .49",
        "1h A raised threshold, 4h A cleared score",
    ),
    Row(
        "persistence waits for scores that follow each other",
        {"persistence": 3},
        "0h .70, 1h .70, 2h .10, 3h .70, 4h .70, 5h .70",
        "5h A raised threshold",
    ),
    Row(
        "an alert that nobody renews expires",
        {},
        "0h .70, 6h tick, 6.5h tick, 7h tick",
        "0h A raised threshold, 6.5h A cleared expired",
    ),
    Row(
        "the end of the encounter ends its alert, and its silence",
        {"refractory_h": 24},
        "0h .70, 1h discharge, 2h .70, 3h new stay, 4h .70",
        "0h A raised threshold, 1h A cleared encounter_ended, 4h B raised threshold",
    ),
    # refractory time ---------------------------------------------------------------------------
    Row(
        "no alert within the refractory time of another",
        {},
        "0h .70, 1h .10, 2h .70, 5.9h .70, 6h .70",
        "0h A raised threshold, 1h A cleared score, 6h B raised threshold",
    ),
    Row(
        "without severity steps nothing breaks the silence",
        {},
        "0h .60, 1h .10, 2h .99",
        "0h A raised threshold, 1h A cleared score",
    ),
    # severity ----------------------------------------------------------------------------------
    Row(
        "a score that reaches a higher step tells again, once per step",
        STEPS,
        "0h .60, 1h .69, 2h .70, 3h .72, 4h .65, 5h .75, 6h .80, 7h .99",
        "0h A raised threshold, 2h A escalated 1 severity, 6h A escalated 2 severity",
    ),
    Row(
        "two steps at once are told as one",
        STEPS,
        "0h .60, 1h .95, 2h .75",
        "0h A raised threshold, 1h A escalated 2 severity",
    ),
    Row(
        "an alert raised at a step does not tell that step again",
        STEPS,
        "0h .75, 1h .76, 2h .85",
        "0h A raised 1 threshold, 2h A escalated 2 severity",
    ),
    Row(
        "a higher step breaks the silence with a new alert; the steps told before do not",
        STEPS,
        "0h .70, 1h .10, 2h .79, 3h .80, 4h .10, 5h .99",
        "0h A raised 1 threshold, 1h A cleared score, 3h B raised 2 severity, 4h B cleared score",
    ),
    Row(
        "what broke the silence begins its own",
        STEPS,
        "0h .60, 1h .10, 5h .70, 5.5h .10, 6h .70, 10.9h .70, 11h .70",
        "0h A raised threshold, 1h A cleared score, 5h B raised 1 severity,"
        " 5.5h B cleared score, 11h C raised 1 threshold",
    ),
    Row(
        "severity does not break persistence",
        {**STEPS, "persistence": 2},
        "0h .99, 1h .10, 2h .65, 3h .65, 4h .99",
        "3h A raised threshold, 4h A escalated 2 severity",
    ),
    Row(
        "an escalation renews the validity",
        STEPS,
        "0h .60, 5h .70, 7h tick, 11h tick, 11.5h tick",
        "0h A raised threshold, 5h A escalated 1 severity, 11.5h A cleared expired",
    ),
    Row(
        "an alert that expired stays silent until a step is reached",
        {**STEPS, "refractory_h": 12},
        "0h .60, 7h tick, 8h .65, 9h .75",
        "0h A raised threshold, 7h A cleared expired, 9h B raised 1 severity",
    ),
    Row(
        "a unit above a step raises at that step",
        {**STEPS, "units": {"MICU": 0.75}},
        "0h to MICU, 1h .72, 2h .76, 3h .80",
        "2h A raised 1 threshold, 3h A escalated 2 severity",
    ),
    # transfer ----------------------------------------------------------------------------------
    Row(
        "a transfer to a unit of the list ends the alert and begins silence",
        ICU,
        "0h to ward, 1h .70, 2h to MICU, 3h .70, 5.9h .70, 7h .70",
        "1h A raised threshold, 2h A cleared transferred, 7h B raised threshold",
    ),
    Row(
        "the silence after a transfer runs beside the refractory time",
        ICU,
        "0h to ward, 1h .70, 2h to MICU, 6h .70, 7h .70",
        "1h A raised threshold, 2h A cleared transferred, 7h B raised threshold",
    ),
    Row(
        "severity does not break the silence after a transfer",
        {**ICU, **STEPS},
        "0h to ward, 2h to MICU, 3h .99, 5.9h .99, 6h .99",
        "6h A raised 2 threshold",
    ),
    Row(
        "a transfer elsewhere changes nothing",
        ICU,
        "0h to ED, 1h .70, 2h to ward, 3h .72, 4h .10",
        "1h A raised threshold, 4h A cleared score",
    ),
    Row(
        "the unit in which a stay begins is no transfer",
        ICU,
        "0h .10, 1h to MICU, 2h .70",
        "2h A raised threshold",
    ),
    Row(
        "hearing of the same unit again is no transfer",
        ICU,
        "0h to MICU, 1h .70, 2h to MICU, 3h .70",
        "1h A raised threshold",
    ),
    Row(
        "nor is a message that names no unit, or the same unit after it",
        ICU,
        "0h to ward, 1h to MICU, 5h .70, 6h somewhere, 7h to MICU, 8h .40",
        "5h A raised threshold, 8h A cleared score",
    ),
    Row(
        "a transfer within the list is one",
        ICU,
        "0h to MICU, 1h .70, 2h to stepdown, 3h .70, 8h .70",
        "1h A raised threshold, 2h A cleared transferred, 8h B raised threshold",
    ),
    # withdrawn ---------------------------------------------------------------------------------
    Row(
        "an alert whose value is taken back is withdrawn, and leaves no silence",
        {},
        "0h .70, 1h retract 0h, 2h .70",
        "0h A raised threshold, 1h A withdrawn value_revised, 2h B raised threshold",
    ),
    Row(
        "so is one whose value was another",
        {},
        "0h .70, 1h correct 0h .40, 2h .70",
        "0h A raised threshold, 1h A withdrawn value_revised, 2h B raised threshold",
    ),
    Row(
        "a correction that still reaches the threshold leaves it",
        {},
        "0h .70, 1h correct 0h .65, 2h .40",
        "0h A raised threshold, 2h A cleared score",
    ),
    Row(
        "a value that came after it had not caused it",
        {},
        "0h .70, 1h .55, 2h retract 1h",
        "0h A raised threshold",
    ),
    Row(
        "an alert that rests on a later value as well goes on",
        {},
        "0h .70, 1h .80, 2h retract 0h, 3h .10",
        "0h A raised threshold, 3h A cleared score",
    ),
    Row(
        "what was cleared is not withdrawn",
        {},
        "0h .70, 1h .10, 2h retract 0h",
        "0h A raised threshold, 1h A cleared score",
    ),
    Row(
        "an escalated alert is withdrawn once, and its steps are forgotten",
        STEPS,
        "0h .60, 1h retract 0h, 2h .70, 3h .80",
        "0h A raised threshold, 1h A withdrawn value_revised,"
        " 2h B raised 1 threshold, 3h B escalated 2 severity",
    ),
    Row(
        "a step reached by a value that is taken back is not told a second time",
        STEPS,
        "0h .60, 1h .70, 2h retract 1h, 3h .72, 4h .80",
        "0h A raised threshold, 1h A escalated 1 severity, 4h A escalated 2 severity",
    ),
    # abstention --------------------------------------------------------------------------------
    Row(
        "what cannot be used decides nothing",
        {},
        "0h .70, 1h silent, 2h .10",
        "0h A raised threshold, 2h A cleared score",
    ),
]


def whole(records: Sequence[Record], policy: Policy) -> Run:
    return Run(scorer(policy)).hand(records)


def one_by_one(records: Sequence[Record], policy: Policy) -> Run:
    run = Run(scorer(policy))
    for record in records:
        run.hand([record])
    return run


def interrupted(records: Sequence[Record], policy: Policy) -> Run:
    """A new life after every record, from the rows that the changelog holds."""
    run, outputs = Run(scorer(policy)), []
    for record in records:
        run = Run(scorer(policy), run.rows).hand([record])
        outputs += run.outputs
    run.outputs = outputs
    return run


@pytest.mark.parametrize("way", [whole, one_by_one, interrupted], ids=lambda way: way.__name__)
@pytest.mark.parametrize("row", TABLE, ids=[row.law for row in TABLE])
def test_the_hospital_is_told(row: Row, way: Any) -> None:
    policy = msgspec.structs.replace(POLICY, **row.policy)
    assert told(way(log(events_of(row.story)), policy).alerts) == row.told


# ---------------------------------------------------------------------------------------- laws

UNITS = ("MICU", "ward", "ED")


@st.composite
def courses(draw: st.DrawFn, *, stays: int = 2) -> list[Vitals]:
    """Two patients around the threshold: moves, revisions, new stays, discharges, ticks."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    events: list[Vitals] = []
    at = START
    for _ in range(draw(st.integers(1, 40))):
        at += int(random.integers(0, 2 * HOUR))
        stay = int(stays > 1 and random.random() < 0.1)
        events.append(_drawn(random, at, [e for e in events if e.kind is Kind.OBSERVATION], stay))
    return events


def _drawn(random: np.random.Generator, at: int, before: Sequence[Vitals], stay: int) -> Vitals:
    who = str(random.choice(["p", "q"]))
    match random.integers(0, 10):
        case 0:
            return tick(at)
        case 1 | 2:
            status = "finished" if stay and random.random() < 0.5 else "in-progress"
            return admitted(who, at, f"{who}{stay}", status, unit=str(random.choice(UNITS)))
        case 3 if before:
            old = before[int(random.integers(0, len(before)))]
            fields = {"pseudonym": old.pseudonym, "ids": old.ids, "received_at": at}
            new = retracted(who, old.measured_at, ["HR"], encounter=old.encounter)
            return msgspec.structs.replace(new, **fields)
        case _:
            rate = float(random.integers(80, 200))
            return measured(who, at, {"HR": rate}, encounter=person(f"{who}{stay}"))


POLICIES = st.builds(
    lambda refractory, valid, persistence, severity, silent: msgspec.structs.replace(
        POLICY,
        refractory_h=refractory,
        valid_for_h=valid,
        persistence=persistence,
        severity=severity,
        transfer=Transfer(to=["*ICU"], silent_h=silent) if silent else Transfer(),
    ),
    st.sampled_from([0.0, 2.0, 12.0]),
    st.sampled_from([1.0, 6.0]),
    st.integers(1, 2),
    st.sampled_from([[], [0.7], [0.65, 0.8, 0.9]]),
    st.sampled_from([0.0, 3.0]),
)


def lives(alerts: Iterable[Alert]) -> list[list[Alert]]:
    found = defaultdict(list)
    for alert in alerts:
        found[alert.alert_id].append(alert)
    return list(found.values())


def decided_at(run: Run) -> dict[str, int]:
    """Event time of the score behind each step."""
    return {f"00c7-3-{e['offset']}@{MODEL.digest[:12]}": e["as_of"] for e in run.entries}


@quick
@given(courses(), POLICIES)
def test_an_alert_is_raised_escalates_upwards_ends_once_and_is_silent_then(
    events: list[Vitals], policy: Policy
) -> None:
    for life in lives(whole(log([*events, tick(START + 9000 * HOUR)]), policy).alerts):
        first, *between, last = life
        assert first.step is Step.RAISED
        assert {each.step for each in between} <= {Step.ESCALATED}
        assert last.step in (Step.CLEARED, Step.WITHDRAWN)
        told_again = [first, *between]
        assert all(a.severity < b.severity for a, b in pairwise(told_again))
        assert all(a.score < b.score for a, b in pairwise(told_again))
        assert all(a.valid_until <= b.valid_until for a, b in pairwise(life))
        assert len({alert_event_id(each) for each in life}) == len(life)


@quick
@given(courses(stays=1), POLICIES)
def test_within_the_refractory_time_only_a_step_above_all_told_raises(
    events: list[Vitals], policy: Policy
) -> None:
    run = whole(log(events), policy)
    at, silent = decided_at(run), defaultdict[bytes, tuple[int, int]](lambda: (-1, 0))
    for alert in run.alerts:
        until, severity = silent[alert.encounter]
        if alert.step is Step.WITHDRAWN:
            del silent[alert.encounter]
        elif alert.step is Step.ESCALATED:
            silent[alert.encounter] = until, alert.severity
        elif alert.step is Step.RAISED:
            now = at[alert.prediction_id]
            assert (alert.cause == "severity") == (now < until)
            assert now >= until or alert.severity > severity
            silent[alert.encounter] = now + round(policy.refractory_h * HOUR), alert.severity


@quick
@given(courses(stays=1), POLICIES)
def test_nothing_is_raised_in_the_silence_after_a_transfer(
    events: list[Vitals], policy: Policy
) -> None:
    run = whole(log(events), policy)
    at = decided_at(run)
    raised = [(a.pseudonym, at[a.prediction_id]) for a in run.alerts if a.step is Step.RAISED]
    moves = defaultdict[bytes, list[Vitals]](list)
    for event in events:
        if event.stay:
            moves[event.pseudonym].append(event)
    for pseudonym, of_one in moves.items():
        for before, after in pairwise(of_one):
            if after.stay and before.stay != after.stay and after.stay.unit == "MICU":
                began = after.measured_at
                until = began + round(policy.transfer.silent_h * HOUR)
                assert not [t for who, t in raised if who == pseudonym and began <= t < until]


@quick
@given(courses(), POLICIES)
def test_neither_a_cut_nor_a_restart_changes_a_decision(
    events: list[Vitals], policy: Policy
) -> None:
    records = log(events)
    once = whole(records, policy)
    for way in (one_by_one, interrupted):
        other = way(records, policy)
        assert other.alerts == once.alerts
        assert [e["decision"] for e in other.entries] == [e["decision"] for e in once.entries]
        assert other.patients == once.patients


@quick
@given(courses(), POLICIES)
def test_a_low_score_of_a_patient_without_alert_or_streak_changes_nothing(
    events: list[Vitals], policy: Policy
) -> None:
    """What lets most entries of a batch pass by the policy."""

    def step(alerting: Alerting, entry: Entry) -> Iterable[Alert]:
        before = state_of(alerting, entry)
        alerts = list(original(alerting, entry))
        if before is not None and _may_pass(entry, before, policy):
            assert alerts == []
            assert state_of(alerting, entry) == before
            assert entry.decision.name == "NONE"
            assert entry.threshold == policy.threshold_in(entry.unit)
        return alerts

    def state_of(alerting: Alerting, entry: Entry) -> Any:
        found = alerting._memory.patients.get(entry.event.pseudonym)
        return found.policy if found else None

    original = Alerting.step
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Alerting, "step", step)
        quiet = whole(log(events), policy)
        patched.setattr(Showing, "_is_quiet", lambda *_, **__: False)
        patched.setattr(Showing, "_asked", lambda _, __, low: [*range(len(low))])
        asked = whole(log(events), policy)
    assert (asked.outputs, asked.patients) == (quiet.outputs, quiet.patients)


def _may_pass(entry: Entry, state: Any, policy: Policy) -> bool:
    due = entry.disposition is Disposition.SCORED and not (
        entry.note.ended or entry.note.discharged
    )
    calm = state.alert is None and state.streak == 0
    return due and calm and entry.score < policy.threshold_in(entry.unit)
