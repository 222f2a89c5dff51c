"""`vigil recompute` on the real engine: what was said live is said again, an edit is found."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from builders import codec
from typer.testing import CliRunner, Result
from watched import START, Memory, baseline, live, logs, put_into_use, statements_in

from services.audit.migrate import apply, read_migrations
from services.audit.recorder import Recorder, Source
from services.audit.writer import write
from services.cli.main import app
from services.core.errors import ExitCode
from services.core.windows import DAY, HOUR, Window
from services.local.home import REPO
from services.monitoring.baselines import baselines_of
from services.monitoring.families import families
from services.monitoring.outputs import LABELLED, METRICS, PREDICTIONS
from services.monitoring.past import Past, Span
from services.runtime.clickhouse import ClickHouse
from services.runtime.codec import EVENTS
from services.runtime.ports import Output, Record
from services.runtime.topics.files import read_topics

pytestmark = pytest.mark.wire

PARTITIONS = 2
SOURCES = {
    topic.topic: Source(
        topic=topic.topic,
        topic_id=f"{number:032x}",
        phi=topic.phi,
        event=EVENTS[topic.event] if topic.event else None,
    )
    for number, topic in enumerate(read_topics(REPO / "schemas"))
}


class World:
    """A store that audit filled: what two partitions held, and what was said of it live."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home, self.store = url, str(home), ClickHouse(url)

    def fill(self) -> None:
        apply(self.store, read_migrations())
        found = families(lambda _: baseline())
        records = logs(found, PARTITIONS, 11, 2.2)
        said = live(found, PARTITIONS, records, 11)
        self.memory = Memory(records, statements_in(said))
        change = Record("changes.v1", 0, 0, START // 1000, b"baseline/site", _change())
        self.keep([change, *records, *_records(said)])

    def keep(self, records: Sequence[Record]) -> None:
        """Do with records what audit does."""
        recorder = Recorder("cluster", SOURCES, heads={}, held={}, decode=codec().decode)
        recorder.add(records)
        write(self.store, recorder.take())

    def recompute(self, *words: str) -> tuple[int, dict[str, Any]]:
        done = self.run(*words, "--json")
        assert done.stdout, done.stderr
        return done.exit_code, json.loads(done.stdout)

    def run(self, *words: str) -> Result:
        """In this process: to start one anew, with all that it loads, takes seconds each time."""
        return CliRunner().invoke(app, ["recompute", *words], env=self.environment())

    def environment(self) -> dict[str, str]:
        schemas = str(REPO / "schemas")
        return {"CLICKHOUSE_URL": self.url, "VIGIL_SCHEMAS": schemas, "VIGIL_HOME": self.home}


def _change() -> bytes:
    return codec().encode(put_into_use(baseline()))


def _records(said: Sequence[Output]) -> list[Record]:
    return [
        Record(METRICS, 0, offset, START // 1000 + offset, output.key, output.value)
        for offset, output in enumerate(o for o in said if o.topic == METRICS)
    ]


@contextmanager
def _made(clickhouse: tuple[str, int], home: Path) -> Iterator[World]:
    url, name = f"http://{clickhouse[0]}:{clickhouse[1]}", f"test_{uuid4().hex}"
    root = ClickHouse(url)
    root.command(f"CREATE DATABASE {name}")
    made = World(f"{url}/{name}", home)
    yield made
    made.store.close()
    root.command(f"DROP DATABASE {name}")
    root.close()


@pytest.fixture(scope="module")
def world(
    clickhouse: tuple[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with _made(clickhouse, tmp_path_factory.mktemp("home")) as made:
        made.fill()
        yield made


def test_what_was_said_live_is_said_again_to_the_last_digit(world: World) -> None:
    code, report = world.recompute()
    assert (code, report["ok"], report["differences"]) == (ExitCode.OK, True, [])
    assert report["schema"] == "vigil.recompute/1"
    assert (report["windows_compared"], report["windows_open"]) == (2, 0)
    assert report["statements_live"] == report["statements_recomputed"] > 100
    assert report["refused"] > 0


def test_the_command_is_one_of_the_tree_and_answers_people(world: World) -> None:
    command = [str(Path(sys.executable).with_name("vigil")), "recompute", "--to", "2026-01-02"]
    environment = {**os.environ, **world.environment()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (ExitCode.OK, 0)
    assert "windows compared                   1" in done.stdout


def test_a_day_may_be_asked_for_alone(world: World) -> None:
    code, report = world.recompute("--from", "2026-01-02", "--to", "2026-01-03T00:00Z")
    assert (code, report["windows_compared"]) == (ExitCode.OK, 1)
    assert (report["start"], report["end"]) == (START + DAY, START + 2 * DAY)


def test_a_window_that_is_not_closed_is_left_out_and_counted(world: World) -> None:
    code, report = world.recompute("--to", "2026-01-04")
    assert (code, report["windows_compared"], report["windows_open"]) == (ExitCode.OK, 2, 1)
    code, report = world.recompute("--from", "2026-01-03", "--to", "2026-01-04")
    assert (code, report["ok"], report["windows_compared"]) == (ExitCode.FINDING, False, 0)


@pytest.mark.parametrize(
    ("period", "reach"),
    [
        (Window(START, START + DAY), DAY),
        (Window(START + 20 * HOUR, START + 23 * HOUR), HOUR),
        (Window(START + 30 * HOUR, START + 40 * HOUR), 3 * HOUR),
        (Window(START - 9 * DAY, START - DAY), HOUR),
        (Window(START + 9 * DAY, START + 10 * DAY), HOUR),
    ],
)
@pytest.mark.parametrize("topic", [PREDICTIONS, LABELLED])
def test_the_ledger_gives_the_records_that_a_slow_reader_finds(
    world: World, topic: str, period: Window, reach: int
) -> None:
    past = Past(world.store)
    assert past.partitions(topic) == PARTITIONS
    found = past.spans(topic, period, reach=reach)
    wanted = world.memory.spans(topic, period, reach=reach)
    assert [_place(span) for span in found] == [_place(span) for span in wanted]
    for one, other in zip(found, wanted, strict=True):
        records = [r for page in past.records(one) for r in page]
        assert records == [r for page in world.memory.records(other) for r in page]
        assert len(records) == one.records


def _place(span: Span) -> tuple[int, int, int]:
    return span.partition, span.after, span.last


def test_pages_meet_without_gap(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.monitoring.past.PAGE_BYTES", 1)
    past = Past(world.store)
    span = past.spans(PREDICTIONS, Window(START, START + DAY), reach=DAY)[0]
    pages = list(past.records(span))
    assert len(pages) > 5
    whole = [r.offset for page in pages for r in page]
    assert whole == [r.offset for r in _of(world, span) if span.after < r.offset <= span.last]


def _of(world: World, span: Span) -> list[Record]:
    place = (span.topic, span.partition)
    return [r for r in world.memory.everything if (r.topic, r.partition) == place]


def test_the_baselines_in_force_are_those_of_the_ledger(world: World) -> None:
    found = baselines_of(Past(world.store).baselines(), codec())
    assert found.at(START) == baseline()
    assert found.at(START - 1) is None


def test_a_whole_period_is_one_window(world: World) -> None:
    code, found = world.recompute(
        "--whole", "--from", "2026-01-01T06:00Z", "--to", "2026-01-03T00:00+00:00"
    )
    assert code == ExitCode.OK
    assert {(m["start"], m["end"]) for m in found["measurements"]} == {
        (START + 6 * HOUR, START + 2 * DAY)
    }
    assert {"alert_rate", "sensitivity", "label_maturity"} <= {
        m["metric"] for m in found["measurements"]
    }
    assert "alert_rate" in world.run("--whole", "--from", "2026-01-01").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--from", "yesterday"),
        ("--from", "2026-01-01T08:00"),
        ("--from", "2026-01-02", "--to", "2026-01-01"),
        ("--from", "2026-01-01T00:30Z", "--to", "2026-01-02"),
    ],
)
def test_a_period_that_is_none_is_refused_with_a_sentence(
    world: World, words: tuple[str, ...]
) -> None:
    done = world.run(*words)
    assert (done.exit_code, done.stdout) == (ExitCode.USAGE, "")
    assert "Traceback" not in done.stderr


def test_a_planted_edit_of_one_measurement_is_found_and_named(world: World) -> None:
    """The last test of this world: the store is not as it was afterwards."""
    chosen = "metric = 'alert_rate' AND cohort = 'all' AND start = toDateTime64('2026-01-02', 6)"
    world.store.command(
        "ALTER TABLE measurements UPDATE numerator = numerator + 1"
        f" WHERE {chosen} SETTINGS mutations_sync = 2"
    )
    code, report = world.recompute()
    assert (code, report["ok"], report["differences_total"]) == (ExitCode.FINDING, False, 1)
    (found,) = report["differences"]
    assert (found["metric"], found["cohort"], found["field"]) == ("alert_rate", "all", "numerator")
    assert found["live"] == found["recomputed"] + 1
    assert found["start"] == START + DAY
    done = world.run()
    assert done.exit_code == ExitCode.FINDING
    assert "FOUND 2026-01-02 00:00Z  alert_rate all patient: numerator" in done.stdout


def test_a_ledger_without_predictions_has_nothing_to_compare(
    clickhouse: tuple[str, int], tmp_path: Path
) -> None:
    with _made(clickhouse, tmp_path) as empty:
        assert empty.run().exit_code == ExitCode.CONFIGURATION
        apply(empty.store, read_migrations())
        assert empty.run().exit_code == ExitCode.REFUSED
        code, report = empty.recompute("--from", "2026-01-01", "--to", "2026-01-02")
        assert (code, report["windows_compared"]) == (ExitCode.FINDING, 0)
