"""What is on the shelf is what people last put into use, and what stands open."""

import msgspec
import pytest
from builders import codec
from watched import START, baseline, put_into_use

from services.core.events import Signal, SignalStep, State
from services.monitoring.shelf import CHANGES, Shelf
from services.runtime.ports import Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics

OPENED = Signal(
    signal_id="drift-HR-all-1",
    step=SignalStep.OPENED,
    kind="drift",
    severity=State.WATCH,
    metric="drift",
    feature="HR",
    cohort="all",
    start=0,
    end=1,
    summary="",
    runbook="",
)
CHANGED = msgspec.structs.replace(OPENED, step=SignalStep.CHANGED, severity=State.ALARM, start=1)
CLOSED = msgspec.structs.replace(CHANGED, step=SignalStep.CLOSED, start=2)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Build(service="monitoring", version="1", revision="r", python="3"))


@pytest.fixture
def shelf(metrics: Metrics) -> Shelf:
    return Shelf(codec(), metrics)


def record(event: msgspec.Struct | None) -> Record:
    value = None if event is None else codec().encode(event)
    return Record(CHANGES, 0, 0, 0, b"baseline/site", value)


def counted(metrics: Metrics, outcome: str) -> bool:
    text = metrics.exposition().decode()
    return f'baselines_total{{outcome="{outcome}",service="monitoring"}} 1.0' in text


def open_signals(metrics: Metrics) -> list[str]:
    lines = metrics.exposition().decode().splitlines()
    return [line.split('outcome="')[1] for line in lines if line.startswith("vigil_open_signals{")]


def test_a_baseline_is_in_force_from_when_it_takes_effect(shelf: Shelf, metrics: Metrics) -> None:
    shelf.change(record(put_into_use(baseline(), START)))
    assert shelf.at(START - 1) is None
    assert shelf.at(START) == baseline()
    assert counted(metrics, "taken")


@pytest.mark.parametrize(
    "broken",
    [
        msgspec.structs.replace(put_into_use(baseline()), after="00"),
        msgspec.structs.replace(put_into_use(baseline()), content=b"{}"),
        None,
    ],
    ids=["another digest", "no baseline", "a tombstone"],
)
def test_an_unusable_baseline_leaves_the_old_one_in_force(
    shelf: Shelf, metrics: Metrics, broken: msgspec.Struct | None
) -> None:
    shelf.change(record(put_into_use(baseline())))
    shelf.change(record(broken))
    assert shelf.at(START) == baseline()
    assert counted(metrics, "refused")


def test_a_change_of_another_kind_changes_no_baseline(shelf: Shelf, metrics: Metrics) -> None:
    shelf.change(record(msgspec.structs.replace(put_into_use(baseline()), kind="policy")))
    assert shelf.at(START) is None
    assert not counted(metrics, "refused")


def test_open_signals_are_those_whose_last_step_is_no_end(shelf: Shelf, metrics: Metrics) -> None:
    shelf.signal(record(OPENED))
    assert open_signals(metrics) == ['watch",reason="drift",service="monitoring"} 1.0']
    shelf.signal(record(CHANGED))
    assert open_signals(metrics) == ['alarm",reason="drift",service="monitoring"} 1.0']
    shelf.signal(record(CLOSED))
    assert open_signals(metrics) == []


def test_a_step_that_is_told_again_opens_nothing(shelf: Shelf, metrics: Metrics) -> None:
    for step in (OPENED, CHANGED, CLOSED, OPENED, CHANGED):
        shelf.signal(record(step))
    assert open_signals(metrics) == []
