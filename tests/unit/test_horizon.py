"""Catching up: what would be over by now calls nobody, is counted, and survives in the log."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wards import CODEC, HOUR, POLICY, START, Run, log, measured, scorer, tick

from services.core.errors import Retry
from services.core.events import Decision, Role, Step
from services.core.policy import FRESH, decide
from services.runtime.ports import Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring import lookout
from services.scoring.alerting import STEPS
from services.scoring.counting import counting
from services.scoring.horizon import KEY, Horizon, Look
from services.scoring.pipeline import Scorer

HIGH, LOW = 160, 60
VALID = round(POLICY.valid_for_h * HOUR)
CALLS = (Step.RAISED, Step.ESCALATED)


def events(hours: int = 12) -> list[Record]:
    """One patient whose score is high at every hour, and a clock that goes on."""
    told = []
    for hour in range(hours):
        told += [tick(START + hour * HOUR), measured("a", START + hour * HOUR, {"HR": HIGH})]
    return log(told)


def looking(look: Look) -> Scorer:
    return scorer()._replace(look=look)


def behind(hours: int) -> Scorer:
    return looking(lambda _: START + hours * HOUR)


@settings(deadline=None)
@given(
    scores=st.lists(st.tuples(st.integers(0, 48), st.floats(0, 1, width=32)), max_size=12),
    horizon=st.integers(-10, 60),
)
def test_nobody_is_called_for_what_is_over_and_everything_else_is_as_without_a_horizon(
    scores: list[tuple[int, float]], horizon: int
) -> None:
    policy = msgspec.structs.replace(POLICY, severity=[0.75, 0.875])
    state = FRESH
    for hour, score in scores:
        of = {"score": score, "at": START + hour * HOUR, "unit": "MICU"}
        free = decide(policy, state, **of)  # type: ignore[arg-type]  # of differing types
        held = decide(policy, state, **of, horizon=START + horizon * HOUR)  # type: ignore[arg-type]  # the same
        if held != free:
            assert free.decision in (Decision.RAISED, Decision.ESCALATED)
            assert held.decision is Decision.HELD_EXPIRED
            assert held.state.alert == state.alert
            assert START + hour * HOUR + VALID < START + horizon * HOUR
        state = held.state
        assert Decision.HELD_EXPIRED not in STEPS


def test_what_ends_at_the_horizon_itself_still_calls() -> None:
    of = {"score": 0.9, "at": START, "unit": "MICU"}
    at_it = decide(POLICY, FRESH, **of, horizon=START + VALID)  # type: ignore[arg-type]  # of differing types
    past = decide(POLICY, FRESH, **of, horizon=START + VALID + 1)  # type: ignore[arg-type]  # the same
    assert (at_it.decision, past.decision) == (Decision.RAISED, Decision.HELD_EXPIRED)
    after = decide(POLICY, past.state, score=0.9, at=START + HOUR, unit="MICU")
    assert after.decision is Decision.RAISED, "it was held, not told: there is no refractory time"


def test_who_catches_up_is_called_for_what_still_holds_alone() -> None:
    free, caught_up = Run(scorer()).hand(events()), Run(behind(12)).hand(events())
    first = [step.measured_at for step in free.alerts if step.step in CALLS]
    later = [step.measured_at for step in caught_up.alerts if step.step in CALLS]
    assert first[0] == START
    assert later[0] == START + (12 - 6) * HOUR
    held = [e for e in caught_up.entries if e["decision"] == Decision.HELD_EXPIRED.name]
    assert len(held) == 6
    assert all(entry["measured_at"] + VALID < START + 12 * HOUR for entry in held)


def test_an_alert_of_before_is_cleared_although_a_new_one_would_be_held() -> None:
    run = Run(scorer()).hand(events(1))
    late = log([measured("a", START + HOUR, {"HR": LOW})], first=10)
    after = Run(behind(40), run.rows).hand(late)
    assert [step.step for step in after.alerts] == [Step.CLEARED]


@pytest.mark.parametrize("cut", [1, 2, 11, 13, 23])
def test_a_restart_and_a_replay_decide_as_the_first_life_did(cut: int) -> None:
    records = events()
    whole = Run(behind(12)).hand(records)
    first = Run(behind(12)).hand(records[:cut])
    second = Run(scorer(), first.rows).hand(records[cut:])
    assert [*first.alerts, *second.alerts] == whole.alerts
    again = Run(scorer(), {KEY: whole.rows[KEY]}).hand(records)
    assert (again.alerts, again.entries) == (whole.alerts, whole.entries)


def test_a_life_looks_once_and_a_horizon_never_goes_back() -> None:
    found = iter([5, 6])
    horizon = Horizon(lambda _: next(found))
    one, two = log([tick(START), tick(START)])
    horizon.reach(one)
    horizon.reach(two)
    assert horizon.at(two.offset) == next(found) - 1
    [(_, row)] = horizon.changes()
    earlier = Horizon(lambda _: 4)
    earlier.load(row)
    earlier.reach(two)
    assert (earlier.at(two.offset), earlier.changes()) == (5, [])


@pytest.mark.parametrize("found", [None, START - 100 * HOUR])
def test_where_nothing_waits_nothing_is_held(found: int | None) -> None:
    free, run = Run(scorer()).hand(events()), Run(looking(lambda _: found)).hand(events())
    assert run.alerts == free.alerts


def test_what_is_held_is_counted_by_unit() -> None:
    metrics = Metrics(Build.of("scoring"))
    shared = behind(12)._replace(told=counting(metrics, Role.SHOWN))
    Run(shared).hand(events())
    text = metrics.exposition().decode()
    [line] = [each for each in text.splitlines() if 'outcome="expired"' in each]
    assert line.startswith("vigil_alerts_held_total{")
    assert line.endswith(" 6.0")


def test_where_nobody_can_look_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Retry("Kafka: no answer")

    monkeypatch.setattr(lookout, "stable_ends", away)
    assert lookout.Lookout({}, CODEC, lambda: 1e9)(events(1)[0]) is None
