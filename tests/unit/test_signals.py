"""Signals open, change and close once each; what is restated is amended and never said twice."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.events import Measurement, Signal, SignalStep, State
from services.core.measures import MEASURES
from services.core.signals import follow, signals_of, unsaid

DAY = 86_400_000_000
OK, WATCH, ALARM, INSUFFICIENT = State.OK, State.WATCH, State.ALARM, State.INSUFFICIENT


def statement(
    day: int, state: State, *, feature: str = "HR", unit: str = "patient_hour"
) -> Measurement:
    return Measurement(
        metric="drift",
        feature=feature,
        cohort="all",
        unit_of_analysis=unit,
        start=day * DAY,
        end=(day + 1) * DAY,
        revision=0,
        value=0.25,
        numerator=800.0,
        denominator=10.0,
        patients=40,
        p_value=0.001,
        direction="higher",
        state=state,
    )


def story(states: Sequence[State], **of: str) -> list[Measurement]:
    return [statement(day, state, **of) for day, state in enumerate(states)]


def steps(signals: Sequence[Signal]) -> list[tuple[int, SignalStep, State]]:
    return [(signal.start // DAY, signal.step, signal.severity) for signal in signals]


def test_a_signal_opens_changes_with_its_severity_and_closes_with_the_worst_it_had() -> None:
    found = signals_of(story([OK, WATCH, WATCH, ALARM, WATCH, OK, OK]))
    assert steps(found) == [
        (1, SignalStep.OPENED, WATCH),
        (3, SignalStep.CHANGED, ALARM),
        (4, SignalStep.CHANGED, WATCH),
        (5, SignalStep.CLOSED, ALARM),
    ]
    assert {signal.signal_id for signal in found} == {f"drift-HR-all-{DAY // 10**6}"}


def test_an_insufficient_window_leaves_a_signal_as_it_is() -> None:
    assert steps(signals_of(story([ALARM, INSUFFICIENT, ALARM, INSUFFICIENT, OK]))) == [
        (0, SignalStep.OPENED, ALARM),
        (4, SignalStep.CLOSED, ALARM),
    ]


def test_only_the_unit_of_analysis_that_speaks_for_a_metric_opens_signals() -> None:
    assert signals_of(story([ALARM], unit="hour")) == []
    assert MEASURES["drift"].signal_unit == "patient_hour"


def test_a_signal_says_what_it_rests_on() -> None:
    [signal] = signals_of(story([ALARM]))
    told = {evidence.name: evidence.value for evidence in signal.evidence}
    assert told["mean"] == "80"
    assert (told["value"], told["p_value"], told["patients"]) == ("0.25", "0.001", "40")
    assert "HR" in signal.summary
    assert "higher" in signal.summary


STORIES = st.lists(st.sampled_from(list(State)), max_size=12)


@settings(deadline=None)
@given(STORIES, STORIES)
def test_every_step_of_every_story_is_named_once_and_each_signal_opens_first(
    one: list[State], other: list[State]
) -> None:
    statements = sorted([*story(one), *story(other, feature="Temp")], key=lambda each: each.start)
    found = signals_of(statements)
    names = [(signal.signal_id, signal.step, signal.start) for signal in found]
    assert len(set(names)) == len(names)
    for signal_id in {signal.signal_id for signal in found}:
        mine = [signal for signal in found if signal.signal_id == signal_id]
        assert mine[0].step is SignalStep.OPENED
        assert all(signal.step is not SignalStep.OPENED for signal in mine[1:])
        assert all(signal.step is not SignalStep.CLOSED for signal in mine[:-1])
        assert all(
            a.severity is not b.severity or b.step is SignalStep.CLOSED for a, b in pairwise(mine)
        )


@settings(deadline=None)
@given(STORIES, st.integers(0, 12))
def test_a_story_told_in_two_parts_is_the_same_story(states: list[State], cut: int) -> None:
    statements = story(states)
    first, standing = follow(statements[:cut], {})
    assert first + signals_of(statements[cut:], standing) == signals_of(statements)


def standing(said: Sequence[Signal]) -> dict[str, State]:
    """The open signals and their severity for somebody who read everything."""
    last = {signal.signal_id: signal for signal in said}
    return {n: s.severity for n, s in last.items() if s.step is not SignalStep.CLOSED}


@settings(max_examples=60, deadline=None)
@given(STORIES, st.data())
def test_after_any_restatements_readers_hold_open_what_is_open(
    states: list[State], data: st.DataObject
) -> None:
    """Windows come one by one; after each, the latest two may be restated."""
    said: list[Signal] = []
    now: list[State] = []
    for state in states:
        now.append(state)
        said += unsaid(signals_of(story(now)), said)
        for place in range(max(0, len(now) - 2), len(now)):
            now[place] = data.draw(st.sampled_from([now[place], *State]))
            said += unsaid(signals_of(story(now)), said)
    names = [(signal.signal_id, signal.step, signal.start) for signal in said]
    assert len(set(names)) == len(names)
    assert standing(said) == standing(signals_of(story(now)))


def test_a_signal_that_a_restatement_takes_back_is_closed() -> None:
    said = unsaid(signals_of(story([ALARM])), [])
    [amended] = unsaid(signals_of(story([OK])), said)
    assert (amended.step, amended.signal_id) == (SignalStep.CLOSED, said[0].signal_id)
    assert unsaid(signals_of(story([OK])), [*said, amended]) == []


def test_a_severity_that_a_restatement_raises_is_a_change_of_the_same_window() -> None:
    said = unsaid(signals_of(story([WATCH])), [])
    [amended] = unsaid(signals_of(story([ALARM])), said)
    assert (amended.step, amended.severity, amended.start) == (SignalStep.CHANGED, ALARM, 0)


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_every_measure_that_signals_says_which_unit_does_and_where_the_remedy_is(
    name: str,
) -> None:
    measure = MEASURES[name]
    assert bool(measure.kind) == bool(measure.signal_unit) == bool(measure.runbook)
    assert msgspec.json.encode(measure)
