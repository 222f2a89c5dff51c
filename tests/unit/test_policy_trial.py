"""A policy that judges what is on record tells what scoring would have told by it."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lifecycles import events_of
from wards import CODEC, HOUR, POLICY, START, Run, cut, log, scorer, ward_log

from services.cli.retrial import Line, Retrial, Seen
from services.cli.trial import counts, table
from services.core.events import Decision, Disposition, Step, Vitals
from services.core.policy import Policy, Tally, Told, Transfer
from services.runtime.ports import Record

FULL = msgspec.structs.replace(
    POLICY,
    version="full",
    threshold=0.5,
    clear_below=0.45,
    units={"unit 1": 0.6},
    severity=[0.65, 0.7],
    persistence=2,
    refractory_h=2,
    transfer=Transfer(to=["unit 2"], silent_h=3),
    valid_for_h=2,
)
LAX = msgspec.structs.replace(POLICY, version="lax", threshold=0.5, clear_below=0.4)
quick = settings(
    max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def seen_of(run: Run) -> dict[int, Seen]:
    """What is on record of each offset."""
    return {
        e["offset"]: Seen(
            Disposition[e["disposition"]],
            e["encounter"],
            e["as_of"],
            e["cohorts"][-1],
            float("nan") if e["score"] is None else e["score"],
        )
        for e in run.entries
    }


def lines_of(records: Sequence[Record]) -> list[Line]:
    return [Line(record.offset, record.value or b"") for record in records]


def tried(policy: Policy, run: Run, parts: Sequence[Sequence[Record]]) -> Told:
    tally, seen = Tally(), seen_of(run)
    retrial = Retrial(CODEC, [policy], [tally])
    for part in parts:
        retrial.hear(lines_of(part), seen)
    return tally.told()


def held_against(told: Told, live: Run) -> None:
    """Hold a trial against what scoring did under the same policy."""
    scored = [e for e in live.entries if e["score"] is not None]
    assert told.decisions == Counter(Decision[e["decision"]] for e in scored)
    assert told.steps == Counter(alert.step for alert in live.alerts)
    raised = [alert for alert in live.alerts if alert.step is Step.RAISED]
    assert told.broke_silence == sum(alert.cause == "severity" for alert in raised)
    assert told.encounters == len({alert.encounter for alert in raised})
    assert told.hours == len({(e["encounter"], e["as_of"] // HOUR) for e in scored})


@quick
@given(
    st.integers(0, 1 << 16),
    st.sampled_from([POLICY, LAX, FULL]),
    st.sampled_from([POLICY, FULL]),
    st.lists(st.integers(1, 250), max_size=3),
)
def test_what_is_on_record_is_judged_as_scoring_judges_it_whatever_held_then(
    seed: int, tried_policy: Policy, in_force: Policy, cuts: list[int]
) -> None:
    """With late, corrected and retracted values, moves, encounters that end, and ticks."""
    records = log(ward_log(seed, hours=14, patients=3))
    on_record, live = Run(scorer(in_force)), Run(scorer(tried_policy))
    for run in (on_record, live):
        run.hand(records)
    places = sorted({place for place in cuts if place < len(records)})
    held_against(tried(tried_policy, on_record, cut(records, places)), live)


def told_of(story: str, policy: Policy = POLICY) -> dict[Step, int]:
    records = log(events_of(story))
    live = Run(scorer(policy)).hand(records)
    told = tried(policy, live, [records])
    held_against(told, live)
    return dict(told.steps)


def test_a_value_that_was_taken_back_or_corrected_withdraws_its_alert() -> None:
    withdrawn = {Step.RAISED: 2, Step.WITHDRAWN: 1}
    assert told_of("0h .70, 1h retract 0h, 2h .70") == withdrawn
    assert told_of("0h .70, 1h correct 0h .40, 2h .70") == withdrawn


def test_a_tick_ends_an_alert_and_a_discharge_an_encounter() -> None:
    cleared = {Step.RAISED: 1, Step.CLEARED: 1}
    assert told_of("0h .70, 6.5h tick") == cleared
    assert told_of("0h .70, 1h discharge, 2h .70") == cleared


def test_what_is_not_of_the_trial_is_read_for_what_it_says_of_patients() -> None:
    """A value of before it, corrected within it, withdraws no alert that it did not bear."""
    events = events_of("0h .70, 1h .70, 2h retract 0h, 3h .20")
    records = log(events)
    run = Run(scorer(POLICY)).hand(records)
    later = {offset: seen for offset, seen in seen_of(run).items() if seen.at >= START + HOUR}
    tally = Tally()
    Retrial(CODEC, [POLICY], [tally]).hear(lines_of(records), later)
    assert dict(tally.told().steps) == {Step.RAISED: 1, Step.CLEARED: 1}


def test_two_policies_judge_beside_each_other_as_each_alone() -> None:
    records = log(ward_log(7, hours=20, patients=4))
    run, tallies = Run(scorer(POLICY)).hand(records), [Tally(), Tally()]
    Retrial(CODEC, [POLICY, FULL], tallies).hear(lines_of(records), seen_of(run))
    both = [tally.told() for tally in tallies]
    assert both == [tried(policy, run, [records]) for policy in (POLICY, FULL)]
    assert both[0] != both[1]


def test_a_record_that_nobody_can_read_is_passed_over() -> None:
    events: list[Vitals | bytes | None] = [b"nothing", None, *events_of("0h .70, 1h .30")]
    records = log(events)
    live = Run(scorer(POLICY)).hand(records)
    held_against(tried(POLICY, live, [records]), live)


def test_alerts_are_counted_per_100_patient_days_of_hours_with_a_score() -> None:
    tally = Tally()
    for hour in range(23):
        tally.score(Decision.NONE, encounter=b"e", at=START + hour * HOUR)
    tally.score(Decision.NONE, encounter=b"e", at=START + 22 * HOUR + 1)
    tally.score(Decision.RAISED, encounter=b"e", at=START + 23 * HOUR)
    [alert] = Run(scorer(POLICY)).hand(log(events_of("0h .70"))).alerts
    tally.step(alert)
    assert (tally.told().hours, tally.told().scores) == (24, 25)
    assert tally.told().per_100_days == 100.0


def test_of_no_score_nothing_can_be_said() -> None:
    assert np.isnan(Tally().told().per_100_days)


def test_policies_stand_side_by_side() -> None:
    steps = Counter({Step.RAISED: 1234})
    told = Told(Counter({Decision.HELD_TRANSFER: 2}), steps, 3, 4, 2400)
    counted = dict(counts(told))
    assert counted["alerts per 100 patient-days"] == 1234.0
    first, *lines = table({"in force": counted, "the file": counted})
    assert first.split() == ["in", "force", "the", "file"]
    assert lines[0].split() == ["alerts", "raised", "1,234", "1,234"]
    assert len(lines) == len(counted) == 9
    assert {len(line) for line in lines} == {52}
