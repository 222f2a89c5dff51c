"""Computing anew: the same records give the same statements, whichever period is asked for."""

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from builders import codec
from hypothesis import given, settings
from hypothesis import strategies as st
from watched import START, Memory, baseline, live, logs, statements_in

from services.core.events import (
    Labelled,
    Measurement,
    PredictionBatch,
    State,
    Tally,
)
from services.core.folds.hours import HourFold
from services.core.folds.labels import LabelFold
from services.core.judge.verdict import Earlier, Verdict
from services.core.label_tallies import LAYOUT
from services.core.tallies import HOURS_LAYOUT
from services.core.windows import DAY, HOUR, Window, windows_between
from services.monitoring.differences import STATEMENT, differences, latest, same, within
from services.monitoring.families import Family, families
from services.monitoring.outputs import LABELLED, PREDICTIONS
from services.monitoring.recompute import Recompute
from services.monitoring.revisions import GONE

PARTITIONS = 3
STATED = Measurement(
    metric="drift",
    feature="HR",
    cohort="all",
    unit_of_analysis="patient_hour",
    start=START,
    end=START + DAY,
    revision=3,
    value=0.1,
    numerator=7.0,
    patients=41,
    state=State.OK,
)


def test_statements_that_differ_in_their_revision_alone_are_the_same() -> None:
    assert list(differences([STATED], [msgspec.structs.replace(STATED, revision=0)])) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("value", 0.1 + 1e-8),
        ("value", None),
        ("numerator", 8.0),
        ("patients", 42),
        ("patients", None),
        ("low", 0.0),
        ("state", State.WATCH),
        ("why", "no_baseline"),
        ("reference", "ab"),
    ],
)
def test_every_field_that_differs_is_named(field: str, value: Any) -> None:
    changed = msgspec.structs.replace(STATED, **{field: value})
    (found,) = differences([STATED], [changed])
    assert (found.field, found.metric, found.start) == (field, "drift", START)
    assert found.recomputed == value


def test_a_number_may_differ_by_less_than_a_billionth() -> None:
    near = msgspec.structs.replace(STATED, value=0.1 * (1 + 1e-10), numerator=7.0 + 1e-10)
    assert list(differences([STATED], [near])) == []


def test_a_count_differs_when_its_last_digit_does() -> None:
    assert not same(10_000_000_000_000, 10_000_000_000_001)
    assert not same(1e13, 1e13 + 1)


def test_a_statement_that_one_side_lacks_is_a_difference() -> None:
    (missing,) = differences([], [STATED])
    assert (missing.field, missing.live, missing.recomputed) == (STATEMENT, "missing", "ok")
    (extra,) = differences([STATED], [])
    assert (extra.live, extra.recomputed) == ("ok", "missing")


def test_only_the_highest_revision_counts() -> None:
    newer = msgspec.structs.replace(STATED, revision=4, value=0.2)
    assert list(differences([newer, STATED, STATED], [newer])) == []
    assert latest([newer, STATED]) == latest([newer])


def test_what_was_taken_back_is_not_looked_at() -> None:
    gone = msgspec.structs.replace(STATED, why=GONE)
    window = Window(STATED.start, STATED.end)
    assert within([gone, STATED], [window]) == [STATED]
    assert within([STATED], [window.following]) == []


class Counting:
    """A judge that remembers: states who was there, and who was in the windows before."""

    remembers = 2

    def __init__(self, fold: HourFold | LabelFold, layout: str, reach: int) -> None:
        self.family, self.layout, self.reach = fold.family, layout, reach

    def check(self, body: bytes) -> None:
        assert body

    def judge(
        self, window: Window, tallies: Sequence[Tally], earlier: Sequence[Earlier]
    ) -> Verdict:
        stated = [self._state(window, "before", sum(int(e.memory) for e in earlier))]
        memory = 0
        for tally in tallies:
            memory += zlib.crc32(tally.body)
            stated.append(self._state(window, str(tally.partition), zlib.crc32(tally.body)))
        return Verdict(measurements=stated, memory=str(memory).encode())

    def _state(self, window: Window, feature: str, value: int) -> Measurement:
        return msgspec.structs.replace(
            STATED,
            metric=self.family,
            feature=feature,
            start=window.start,
            end=window.end,
            value=float(value),
        )


def _short() -> list[Family]:
    """Windows of six hours that reach back six and twelve hours."""
    length = 6 * HOUR

    def hours(partition: int) -> HourFold:
        return HourFold(partition, lambda _: baseline(), length=length, reach=length)

    def labels(partition: int) -> LabelFold:
        return LabelFold(partition, length=length, reach=2 * length)

    return [
        Family(
            topic=PREDICTIONS,
            event=PredictionBatch,
            fold=hours,
            judge=Counting(hours(0), HOURS_LAYOUT, length),
            length=length,
        ),
        Family(
            topic=LABELLED,
            event=Labelled,
            fold=labels,
            judge=Counting(labels(0), LAYOUT, 2 * length),
            length=length,
        ),
    ]


def _recompute(memory: Memory) -> Recompute:
    return Recompute(memory, codec(), lambda _, __: None)


def _remembered(found: Sequence[Family], seed: int, days: float) -> Memory:
    records = logs(found, PARTITIONS, seed, days)
    return Memory(records, statements_in(live(found, PARTITIONS, records, seed)))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**20), st.integers(0, 80), st.integers(1, 80))
def test_any_period_computed_anew_says_what_was_said_live(
    seed: int, first_h: int, hours: int
) -> None:
    period = Window(START + first_h * HOUR, START + (first_h + hours) * HOUR)
    report = _recompute(_remembered(_short(), seed, 3.1)).compare(_short(), period)
    assert report.differences == []
    wanted = list(windows_between(START + -(-first_h // 6) * 6 * HOUR, period.end, 6 * HOUR))
    closed = [window for window in wanted if window.end <= START + 3 * DAY]
    assert report.windows_compared == len(closed)
    assert report.windows_open <= 1
    assert report.statements_live == report.statements_recomputed
    assert report.statements_live >= 2 * PARTITIONS * len(closed)


def test_not_all_that_the_ledger_holds_is_read() -> None:
    memory = _remembered(_short(), 7, 3.1)
    batch = _recompute(memory)
    batch.compare(_short(), Window(START + 2 * DAY, START + 2 * DAY + 6 * HOUR))
    assert 0 < batch.records < 0.6 * len(memory.everything)


def test_an_edit_of_one_statement_is_found_and_named() -> None:
    memory = _remembered(_short(), 3, 1.1)
    edited = memory.statements[10]
    memory.statements[10] = msgspec.structs.replace(edited, revision=9, patients=12)
    report = _recompute(memory).compare(_short(), Window(START, START + DAY))
    assert report.differences_total == 1
    (found,) = report.differences
    assert (found.field, found.live, found.recomputed) == ("patients", 12, 41)
    assert (found.metric, found.feature, found.start) == (
        edited.metric,
        edited.feature,
        edited.start,
    )


def test_a_window_that_was_never_stated_is_found() -> None:
    memory = _remembered(_short(), 3, 1.1)
    kept = [s for s in memory.statements if s.start != START + 6 * HOUR]
    silent = Memory(memory.everything, kept)
    report = _recompute(silent).compare(_short(), Window(START, START + DAY))
    assert report.differences_total == report.statements_recomputed - report.statements_live > 0
    assert {each.start for each in report.differences} == {START + 6 * HOUR}


def test_an_empty_ledger_compares_nothing() -> None:
    report = _recompute(Memory([], [])).compare(_short(), Window(START, START + DAY))
    assert (report.windows_compared, report.records, report.differences) == (0, 0, [])


def test_the_families_that_run_live_say_the_same_again() -> None:
    found = families(lambda _: baseline())
    memory = _remembered(found, 5, 2.2)
    report = _recompute(memory).compare(found, Window(START, START + 3 * DAY))
    assert (report.differences, report.windows_compared, report.windows_open) == ([], 2, 1)
    metrics = {s.metric for s in memory.statements}
    assert metrics >= {"drift", "alert_rate", "alerted_patient_days", "sensitivity", "calibration"}
    assert any(s.metric == "drift" and s.value is not None for s in memory.statements)


def test_a_whole_period_is_one_window() -> None:
    period = Window(START + 5 * HOUR, START + 41 * HOUR)
    found = families(lambda _: baseline(), length=period.length, origin=period.start)
    memory = _remembered(families(lambda _: baseline()), 5, 2.2)
    statements = _recompute(memory).whole(found, period)
    assert {(s.start, s.end) for s in statements} == {tuple(period)}
    rate = next(s for s in statements if (s.metric, s.cohort) == ("alert_rate", "all"))
    entries = [e for e in memory.entries() if period.start <= e[1] < period.end]
    assert rate.patients == len({who for who, _, _ in entries})
    assert rate.numerator == len({who for who, _, raised in entries if raised})
