"""A policy that judges scores on record tells what scoring would have told."""

from collections import Counter

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wards import HOUR, POLICY, START, Run, admitted, log, measured, person, scorer, tick

from services.cli.trial import counts, table
from services.core.events import Decision, Vitals
from services.core.policy import Policy, Scored, Told, Transfer, tried

FULL = msgspec.structs.replace(
    POLICY,
    units={"MICU": 0.7},
    severity=[0.75, 0.9],
    persistence=2,
    transfer=Transfer(to=["*ICU"], silent_h=3),
    valid_for_h=2,
)


def observed(seed: int, many: int) -> tuple[list[Vitals], list[Scored]]:
    """Two patients who move, each score behind the tick of its time; and what is on record."""
    random = np.random.default_rng(seed)
    events: list[Vitals] = []
    scores: list[Scored] = []
    units: dict[str, str] = {}
    at = START
    for _ in range(many):
        at += int(random.integers(1, 2 * HOUR))
        who, rate = str(random.choice(["p", "q"])), float(random.integers(90, 200))
        events.append(tick(at))
        if random.random() < 0.3:
            units[who] = str(random.choice(["MICU", "ward"]))
            events.append(admitted(who, at, who, unit=units[who]))
        events.append(measured(who, at, {"HR": rate}, encounter=person(who)))
        score = float(np.float32(rate) / np.float32(200))
        scores.append(Scored(person(who), at, units.get(who, ""), score))
    return events, scores


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 32), st.integers(1, 40), st.sampled_from([POLICY, FULL]))
def test_scores_on_record_are_judged_as_scoring_judges_them(
    seed: int, many: int, policy: Policy
) -> None:
    events, scores = observed(seed, many)
    run = Run(scorer(policy)).hand(log(events))
    seen = [entry for entry in run.entries if entry["score"] is not None]
    assert [entry["score"] for entry in seen] == [each.score for each in scores]
    told = tried(policy, scores)
    assert told.decisions == Counter(Decision[entry["decision"]] for entry in seen)
    raised = [alert for alert in run.alerts if alert.step.value == "raised"]
    assert told.broke_silence == sum(alert.cause == "severity" for alert in raised)
    assert told.encounters == len({alert.encounter for alert in raised})


def test_alerts_are_counted_per_100_patient_days_of_hours_with_a_score() -> None:
    low = [Scored(b"e", START + hour * HOUR, "", 0.1) for hour in range(23)]
    again = Scored(b"e", START + 22 * HOUR + 1, "", 0.1)
    told = tried(POLICY, [*low, again, Scored(b"e", START + 23 * HOUR, "", 0.9)])
    assert (told.hours, told.decisions[Decision.RAISED]) == (24, 1)
    assert told.per_100_days == 100.0


def test_of_no_score_nothing_can_be_said() -> None:
    assert np.isnan(tried(POLICY, []).per_100_days)


def test_policies_stand_side_by_side() -> None:
    told = Told(Counter({Decision.RAISED: 1234, Decision.HELD_TRANSFER: 2}), 3, 4, 2400)
    counted = dict(counts(told))
    assert counted["alerts per 100 patient-days"] == 1234.0
    first, *lines = table({"in force": counted, "the file": counted})
    assert first.split() == ["in", "force", "the", "file"]
    assert lines[0].split() == ["alerts", "raised", "1,234", "1,234"]
    assert len(lines) == len(counted) == 8
    assert {len(line) for line in lines} == {52}
