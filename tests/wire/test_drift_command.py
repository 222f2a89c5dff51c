"""`vigil drift` on real engines: a period frozen, a change published, a signal told."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from batches import DAY, HOUR, MINUTE, Scored, batch
from builders import REPO, codec
from typer.testing import CliRunner
from wards import measured

from services.audit.migrate import apply, read_migrations
from services.audit.recorder import Recorder, Source
from services.audit.writer import write
from services.cli.main import app
from services.core import baseline
from services.core.baseline import EVERYBODY, Baseline
from services.core.errors import ExitCode
from services.core.events import (
    Cause,
    Change,
    Disposition,
    Measurement,
    Role,
    Signal,
    SignalStep,
    State,
)
from services.core.freeze import PatientHours, Period, freeze
from services.core.vitals import VITALS
from services.local.kafka import Broker
from services.monitoring.baselines import baselines_of
from services.monitoring.period import patient_hours
from services.runtime.clickhouse import ClickHouse
from services.runtime.codec import EVENTS
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.reader import scan
from services.runtime.ports import Record
from services.runtime.topics.files import read_topics

pytestmark = pytest.mark.wire

START = 1_767_225_600_000_000
"""2026-01-01."""
PATIENTS = 120
SOURCES = {
    topic.topic: Source(
        topic=topic.topic,
        topic_id=f"{number:032x}",
        phi=topic.phi,
        event=EVENTS[topic.event] if topic.event else None,
    )
    for number, topic in enumerate(read_topics(REPO / "schemas"))
}


def charted() -> PatientHours:
    """Patients of one unit for a few hours each; values that float32 knows."""
    chance = np.random.default_rng(4)
    lengths = chance.integers(2, 9, PATIENTS)
    patient = np.repeat(np.arange(PATIENTS), lengths)
    hour = START // HOUR + np.concatenate([np.arange(length) for length in lengths])
    values = chance.integers(60, 120, (len(patient), len(VITALS))).astype(np.float64)
    values[chance.random(values.shape) < 0.3] = np.nan
    values[:, 0] = chance.integers(60, 120, len(patient))
    return PatientHours(patient, hour, values, ["ICU-NORTH"] * PATIENTS)


def entries(given: PatientHours) -> list[Scored]:
    """Each hour as two entries, the later of which counts; and others that do not count."""
    found = []
    for who, hour, row in zip(given.patient, given.hour, given.values, strict=True):
        values = {n: float(v) for n, v in zip(VITALS, row, strict=True) if not np.isnan(v)}
        at, unit = int(hour) * HOUR, {"unit": "ICU-NORTH"}
        wrong = {name: value + 40 for name, value in values.items()}
        found += [
            Scored(who=int(who), at=at + 20 * MINUTE, values=values, cohorts=unit),
            Scored(who=int(who), at=at + 10 * MINUTE, values=wrong, cohorts=unit),
            Scored(
                who=int(who),
                at=at + 30 * MINUTE,
                values=wrong,
                disposition=Disposition.ABSTAINED,
                cause=Cause.UNUSABLE,
            ),
            Scored(
                who=int(who), at=at + 40 * MINUTE, values=wrong, disposition=Disposition.DUPLICATE
            ),
        ]
    return found


def told(first: int, about: Sequence[tuple[str, msgspec.Struct]]) -> list[Record]:
    return [
        Record(topic, 0, first + offset, START // 1000, b"key", codec().encode(event))
        for offset, (topic, event) in enumerate(about)
    ]


class World:
    """A store that audit filled."""

    def __init__(self, url: str, home: Path) -> None:
        self.store = ClickHouse(url)
        schemas = str(REPO / "schemas")
        self.environ = {
            "CLICKHOUSE_URL": url,
            "VIGIL_SCHEMAS": schemas,
            "VIGIL_HOME": str(home),
        }
        apply(self.store, read_migrations())

    def keep(self, records: Sequence[Record]) -> None:
        recorder = Recorder("cluster", SOURCES, heads={}, held={}, decode=codec().decode)
        recorder.add(records)
        write(self.store, recorder.take())

    def ask(self, *words: str, **environ: str) -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(app, ["drift", *words, "--json"], env=self.environ | environ)
        assert done.stdout, done.stderr
        return done.exit_code, json.loads(done.stdout)

    def say(self, *words: str) -> str:
        done = CliRunner().invoke(app, ["drift", *words], env=self.environ)
        assert done.exit_code == ExitCode.OK, done.stderr
        return str(done.stdout)


@pytest.fixture(scope="module")
def world(
    clickhouse: tuple[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    url, name = f"http://{clickhouse[0]}:{clickhouse[1]}", f"test_{uuid4().hex}"
    root = ClickHouse(url)
    root.command(f"CREATE DATABASE {name}")
    made = World(f"{url}/{name}", tmp_path_factory.mktemp("home"))
    every = entries(charted())
    parts = [every[at : at + 500] for at in range(0, len(every), 500)]
    batches = [batch(part, watermark=START + DAY) for part in parts]
    # Offsets of vitals go on from batch to batch; a shadow model scores the same once more.
    numbered = [
        msgspec.structs.replace(b, offsets=(np.arange(500)[: b.entries] + 500 * n).tobytes())
        for n, b in enumerate(batches)
    ]
    shadow = msgspec.structs.replace(batches[0], role=Role.SHADOW)
    made.keep(told(0, [("predictions.v1", each) for each in (*numbered, shadow)]))
    yield made
    made.store.close()
    root.command(f"DROP DATABASE {name}")
    root.close()


def test_a_period_of_the_ledger_gives_the_hours_that_monitoring_counts(world: World) -> None:
    expected, found = charted(), patient_hours(world.store, START, START + DAY)
    assert found.units == expected.units
    np.testing.assert_array_equal(found.patient, expected.patient)
    np.testing.assert_array_equal(found.hour, expected.hour)
    np.testing.assert_array_equal(found.values, expected.values)
    empty = patient_hours(world.store, START + 7 * DAY, START + 8 * DAY)
    assert (len(empty.hour), len(empty.units), empty.values.shape) == (0, 0, (0, len(VITALS)))


def test_a_frozen_period_is_the_baseline_of_its_hours(world: World, tmp_path: Path) -> None:
    file = tmp_path / "site.json"
    period = ("--from", "2026-01-01", "--to", "2026-01-02", "--name", "January")
    code, answer = world.ask("baseline", "freeze", "--out", str(file), *period)
    site = Period("January", START, START + DAY)
    expected = freeze(np.random.default_rng(1), charted(), site)
    assert (code, answer["digest"]) == (ExitCode.OK, expected.digest)
    assert baseline.decode(file.read_bytes()) == expected
    assert set(expected.cohorts) == {EVERYBODY, "unit=ICU-NORTH"}


def test_too_small_a_period_is_refused_in_a_sentence(world: World, tmp_path: Path) -> None:
    file = tmp_path / "site.json"
    period = ("--from", "2026-02-01", "--to", "2026-02-02", "--name", "nobody")
    done = CliRunner().invoke(
        app, ["drift", "baseline", "freeze", "--out", str(file), *period], env=world.environ
    )
    assert (done.exit_code, file.exists()) == (ExitCode.REFUSED, False)
    assert "0 patients" in done.stderr


@pytest.fixture(scope="module")
def site() -> Baseline:
    return baseline.decode((REPO / "services/simulator/baselines/ward.json").read_bytes())


def drifted(site: Baseline, cohort: str = "all") -> tuple[Measurement, Signal]:
    """MAP of 40 patients was 8 mm[Hg] lower than in the baseline."""
    reference = site.cohorts["all"].features["MAP"]
    said = Measurement(
        metric="drift",
        feature="MAP",
        cohort=cohort,
        unit_of_analysis="patient_hour",
        revision=0,
        value=0.5,
        numerator=40 * (reference.mean - 8),
        denominator=40,
        patients=40,
        hours=700,
        threshold=0.25,
        p_value=0.002,
        direction="lower",
        state=State.ALARM,
        why="mean",
        reference=site.digest,
        start=START,
        end=START + DAY,
    )
    signal = Signal(
        signal_id=f"drift-MAP-{cohort}-1767225600",
        step=SignalStep.OPENED,
        kind="drift",
        severity=State.ALARM,
        metric="drift",
        feature="MAP",
        cohort=cohort,
        summary="drift of MAP: alarm, lower than the reference",
        runbook="drift",
        start=START,
        end=START + DAY,
    )
    return said, signal


def in_use(site: Baseline) -> Change:
    return Change(
        change_id=str(uuid4()),
        kind="baseline",
        subject="baseline/site",
        made_at=START,
        effective_from=START,
        requested_by="informaticist",
        approved_by="clinical lead",
        reason="first baseline",
        before="",
        after=site.digest,
        content=baseline.encode(site),
    )


def test_a_signal_is_listed_and_explained_with_what_would_have_been_seen(
    world: World, site: Baseline
) -> None:
    said, signal = drifted(site)
    about = [("changes.v1", in_use(site)), ("metrics.v1", said), ("signals.v1", signal)]
    # At-least-once writers may say a thing twice.
    world.keep([*told(0, about), *told(3, about[1:])])
    _, listed = world.ask("list")
    assert [each["signal_id"] for each in listed["open"]] == [signal.signal_id]
    assert [each["state"] for each in listed["measurements"]] == ["alarm"]
    code, found = world.ask("explain", signal.signal_id)
    assert (code, [step["step"] for step in found["steps"]]) == (ExitCode.OK, ["opened"])
    assert [near["approved_by"] for near in found["changes"]] == ["clinical lead"]
    power = found["power"]
    assert power["change"] == pytest.approx(-8, abs=0.2)
    assert 10 < power["patients_for_one_in_two"] < 30
    by_count = dict(zip(power["patients"], power["chance"], strict=True))
    assert by_count[20] < by_count[40] < by_count[100]
    assert by_count[100][1] > 0.95
    assert "in 1 window of 2 at" in world.say("explain", signal.signal_id)
    assert "ALARM" in world.say("list")


def test_a_new_unit_device_or_site_is_told_beside_the_signal(world: World, site: Baseline) -> None:
    """Temperatures in Celsius the day before, every other one in Fahrenheit in the window."""
    units = ["Cel"] * 5 + ["[degF]", "Cel"] * 3
    events = [
        msgspec.structs.replace(
            measured(f"p{number}", START - 5 * HOUR + number * HOUR, {"Temp": 37.0}, units=[unit]),
            devices=["" if unit == "Cel" else "a1b2c3d4e5f60718"],
            source="west" if unit == "Cel" else "east",
        )
        for number, unit in enumerate(units)
    ]
    world.keep(told(0, [("vitals.v1", event) for event in events]))
    _, signal = drifted(site)
    signal = msgspec.structs.replace(signal, signal_id="drift-Temp-all-1", feature="Temp")
    world.keep(told(10, [("signals.v1", signal)]))
    _, found = world.ask("explain", "drift-Temp-all-1")
    assert found["statement"] is None  # of Temp nothing was stated
    assert found["mix"] == [
        *(["unit", "Cel", 0.5, 1.0], ["unit", "[degF]", 0.5, 0.0]),
        ["device", "a1b2c3d4e5f60718", 0.5, 0.0],
        *(["site", "east", 0.5, 0.0], ["site", "west", 0.5, 1.0]),
    ]
    assert "unit [degF]: 0.0% in the days before, 50.0% in the window" in world.say(
        "explain", "drift-Temp-all-1"
    )


def test_an_unknown_signal_is_a_mistake_of_who_asks(world: World) -> None:
    done = CliRunner().invoke(app, ["drift", "explain", "nothing"], env=world.environ)
    assert done.exit_code == ExitCode.USAGE


def test_a_baseline_in_use_is_a_change_that_names_what_was_before(
    broker: Callable[[], Broker], tmp_path: Path, site: Baseline
) -> None:
    options = {"bootstrap.servers": broker().bootstrap}
    environ = {"KAFKA_BOOTSTRAP_SERVERS": str(options["bootstrap.servers"])}
    environ |= {"VIGIL_SCHEMAS": str(REPO / "schemas"), "VIGIL_HOME": str(tmp_path)}
    runner, made = CliRunner(), tmp_path / "later.json"
    later = msgspec.structs.replace(site, name="later")
    made.write_bytes(baseline.encode(later))
    assert runner.invoke(app, ["topics", "apply", "--yes"], env=environ).exit_code == 0
    files = [REPO / "services/simulator/baselines/ward.json", made]
    who = ("--requested-by", "a", "--approved-by", "b", "--reason", "c", "--json")
    for file, since in zip(files, ("2026-01-01", "2026-01-02T00:00Z"), strict=True):
        words = ["drift", "baseline", "use", str(file), "--effective-from", since, *who]
        refused = runner.invoke(app, words, env=environ)
        assert (refused.exit_code, "--yes" in refused.stderr) == (ExitCode.USAGE, True)
        looked = runner.invoke(app, [*words, "--dry-run"], env=environ)
        assert json.loads(looked.stdout)["dry_run"] is True
        done = runner.invoke(app, [*words, "--yes"], env=environ)
        assert done.exit_code == ExitCode.OK, done.stderr
        told = json.loads(done.stdout)
        assert told["before"] == json.loads(looked.stdout)["before"]
    places = partitions_of(options, ["changes.v1"])
    values = [r.value for r in scan(options, places, patience_s=10.0) if r.value is not None]
    changes = [codec().decode(value, Change) for value in values]
    assert [(c.before, c.after) for c in changes] == [
        ("", site.digest),
        (site.digest, later.digest),
    ]
    known = baselines_of(values, codec())
    assert known.at(START - 1) is None
    assert known.at(START) == site
    assert known.at(START + DAY) == later
