"""What Prometheus is told of scoring: how late it is, and how far event time has come."""

import re

import msgspec
import pytest
from wards import HOUR, MODEL, START, Run, admitted, log, measured, scorer, tick

from services.core.events import Role
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring.counting import counting
from services.scoring.entries import Model

EVENTS = [
    admitted("p", START, "e1", unit="MICU"),
    measured("p", START, {"HR": 150}),
    measured("p", START + HOUR, {"HR": 60}),
    measured("p", START + 2 * HOUR, {"HR": 150}),
    tick(START + 2 * HOUR),
]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Build(service="scoring", version="1", revision="a", python="3"))


def told(metrics: Metrics, model: Model = MODEL) -> dict[str, float]:
    shared = scorer(model=model)._replace(told=counting(metrics, model.role))
    Run(shared).hand(log(EVENTS))
    lines = metrics.exposition().decode().splitlines()
    series = (re.fullmatch(r"(vigil_\S+) (\S+)", line) for line in lines)
    return {found[1]: float(found[2]) for found in series if found}


def test_an_alert_is_counted_by_unit_and_its_delay_once(metrics: Metrics) -> None:
    seen = told(metrics)
    model = 'model="test",version="0.0.1"'
    assert seen[f"vigil_accepted_to_scored_seconds_count{{{model}}}"] == 3
    assert seen[f"vigil_accepted_to_alert_seconds_count{{{model}}}"] == 1
    assert seen['vigil_alerts_total{outcome="raised",unit="MICU"}'] == 1
    assert seen['vigil_alerts_total{outcome="cleared",unit="MICU"}'] == 1
    assert seen['vigil_alerts_held_total{outcome="refractory",unit="MICU"}'] == 1


def test_what_a_shadow_decides_delays_nobody_and_holds_nothing(metrics: Metrics) -> None:
    seen = told(metrics, msgspec.structs.replace(MODEL, role=Role.SHADOW))
    assert seen['vigil_accepted_to_alert_seconds_count{model="test",version="0.0.1"}'] == 0
    assert not [name for name in seen if name.startswith("vigil_alerts_held_total")]


def test_event_time_is_shown_by_partition_in_seconds(metrics: Metrics) -> None:
    seen = told(metrics)
    name = 'vigil_watermark_timestamp_seconds{partition="3",topic="vitals.v1"}'
    assert seen[name] == (START + 2 * HOUR) / 1e6


def test_a_shadow_beside_is_counted_apart(metrics: Metrics) -> None:
    shared = scorer(model=msgspec.structs.replace(MODEL, role=Role.SHADOW))
    Run(shared._replace(told=counting(metrics))).hand(log(EVENTS))
    text = metrics.exposition().decode()
    assert 'outcome="shadow_scored"' in text
    assert 'outcome="scored"' not in text
    assert "vigil_accepted_to_scored_seconds_count{" not in text
