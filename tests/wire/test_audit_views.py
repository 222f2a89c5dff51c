"""How things stand now, as the real engine shows it: the views over what was ever said."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from services.audit.migrate import apply, read_migrations
from services.audit.recorder import Recorder, Source
from services.audit.writer import write
from services.core.events import (
    HourLabel,
    Labelled,
    Measurement,
    Signal,
    SignalStep,
    State,
)
from services.local.home import REPO
from services.runtime.clickhouse import ClickHouse
from services.runtime.codec import Codec
from services.runtime.ports import Record

pytestmark = pytest.mark.wire

CODEC = Codec(REPO / "schemas")
HOUR = 3_600_000_000
START = 1_767_225_600_000_000
TOPICS: dict[type[msgspec.Struct], str] = {
    Measurement: "metrics.v1",
    Labelled: "labelled.v1",
    Signal: "signals.v1",
}


@pytest.fixture
def store(clickhouse: tuple[str, int]) -> Iterator[ClickHouse]:
    url, name = f"http://{clickhouse[0]}:{clickhouse[1]}", f"test_{uuid4().hex}"
    root = ClickHouse(url)
    root.command(f"CREATE DATABASE {name}")
    door = ClickHouse(f"{url}/{name}")
    apply(door, read_migrations())
    yield door
    door.close()
    root.command(f"DROP DATABASE {name}")
    root.close()


def say(store: ClickHouse, *messages: msgspec.Struct) -> None:
    sources = {
        topic: Source(topic=topic, topic_id=f"{number:032x}", phi=False, event=event)
        for number, (event, topic) in enumerate(TOPICS.items())
    }
    recorder = Recorder("cluster", sources, heads={}, held={}, decode=CODEC.decode)
    for offset, message in enumerate(messages):
        topic, value = TOPICS[type(message)], CODEC.encode(message)
        recorder.add([Record(topic, 0, offset, START // 1000, b"key", value)])
    write(store, recorder.take())


def measurement(revision: int, value: float, **changes: Any) -> Measurement:
    whole = Measurement(
        metric="drift",
        feature="Resp",
        cohort="all",
        unit_of_analysis="patient_hour",
        start=START,
        end=START + 24 * HOUR,
        revision=revision,
        value=value,
        patients=57,
        state=State.OK,
    )
    return msgspec.structs.replace(whole, **changes)


def test_the_highest_revision_of_a_measurement_stands_once_though_it_was_said_twice(
    store: ClickHouse,
) -> None:
    say(
        store,
        measurement(1, 0.2),
        measurement(0, 0.1),
        measurement(1, 0.2),
        measurement(0, 0.3, feature="HR"),
        measurement(0, 0.4, start=START + 24 * HOUR, end=START + 48 * HOUR),
    )
    found = store.query(
        "SELECT feature, toInt64(start = toDateTime64('2026-01-01 00:00:00', 6, 'UTC')) AS first,"
        " revision, value FROM measurements_now ORDER BY value"
    )
    assert list(zip(*found.values(), strict=True)) == [
        ("Resp", 1, 1, 0.2),
        ("HR", 1, 0, 0.3),
        ("Resp", 0, 0, 0.4),
    ]
    assert store.query("SELECT count() AS n FROM measurements")["n"] == [5]


def labelled(number: int, revision: int, label: int | None) -> Labelled:
    now = HourLabel(
        score=0.5,
        threshold=0.4,
        above=True,
        raised=False,
        first_alert=False,
        label=label or 0,
        final=bool(label),
        onset=False,
        lead_s=None,
        recognition_lead_s=None,
        treatment_lead_s=None,
        shown=False,
        answered_at=None,
        verdict="",
        reason="",
        acted_at=None,
        authority="",
    )
    name = bytes([number]) * 16
    return Labelled(
        pseudonym=name,
        encounter=name,
        hour=START + number * HOUR,
        revision=revision,
        now=None if label is None else now,
    )


def test_an_hour_has_its_latest_label_and_one_that_was_taken_back_has_none(
    store: ClickHouse,
) -> None:
    say(
        store,
        labelled(1, 1, 1),
        labelled(1, 0, 0),
        labelled(1, 1, 1),
        labelled(2, 0, 0),
        labelled(3, 0, 1),
        labelled(3, 1, None),
        Labelled(hour=START, revision=0, watermark=START),
    )
    found = store.query("SELECT revision, label, final FROM labels_now ORDER BY hour")
    assert list(zip(*found.values(), strict=True)) == [(1, 1, True), (0, 0, False)]


def signal(feature: str, step: SignalStep, window: int) -> Signal:
    return Signal(
        signal_id=f"drift-{feature}-all-1",
        step=step,
        kind="drift",
        severity=State.ALARM,
        metric="drift",
        feature=feature,
        cohort="all",
        start=START + window * 24 * HOUR,
        end=START + (window + 1) * 24 * HOUR,
        summary="",
        runbook="",
    )


def test_a_signal_is_open_until_the_last_word_on_it_is_that_it_is_closed(
    store: ClickHouse,
) -> None:
    say(
        store,
        signal("HR", SignalStep.OPENED, 1),
        signal("Resp", SignalStep.OPENED, 1),
        signal("Resp", SignalStep.OPENED, 1),
        signal("Temp", SignalStep.OPENED, 2),
        signal("HR", SignalStep.CLOSED, 3),
        signal("Resp", SignalStep.CHANGED, 3),
    )
    found = store.query("SELECT feature, step FROM signals_open ORDER BY feature")
    assert list(zip(*found.values(), strict=True)) == [("Resp", "changed"), ("Temp", "opened")]
