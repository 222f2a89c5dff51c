"""A policy that people put into use judges the next batch, and is what everybody reads back."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner
from wards import CODEC, HOUR, MODEL, START, Run, admitted, log, measured, person

from services.audit.migrate import apply, read_migrations
from services.audit.recorder import Recorder, Source
from services.audit.writer import write
from services.cli.main import app
from services.cli.trial import scores_of
from services.core.errors import CommandError
from services.core.events import PredictionBatch, Role, Vitals
from services.core.faults import Fault
from services.core.policy import Scored
from services.local.home import REPO
from services.local.kafka import Broker
from services.runtime.clickhouse import ClickHouse
from services.runtime.ports import Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring.__main__ import engine, opener
from services.scoring.fleet import Fleet, Live, Watch
from services.scoring.pipeline import Scorer

pytestmark = pytest.mark.wire

MODELS = REPO / "models"
SHIPPED = MODELS / "sepsis" / "1.0.0"
OWN = json.loads((SHIPPED / "policy.json").read_bytes())
ASKED = ("--requested-by", "anna", "--approved-by", "bert", "--reason", "too many alerts")


class Terminal:
    """Runs `vigil policy` as a person does, who was asked to agree beforehand."""

    def __init__(self, servers: str, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            "KAFKA_BOOTSTRAP_SERVERS": servers,
            "VIGIL_HOME": str(folder),
            "VIGIL_MODEL": str(SHIPPED),
            "VIGIL_MODELS": str(MODELS),
            "VIGIL_SCHEMAS": str(REPO / "schemas"),
        }

    def say(self, *words: str) -> Any:
        return CliRunner().invoke(app, words, env=self.environ)

    def use(self, *words: str, **rules: Any) -> Any:
        file = self.folder / "policy.json"
        file.write_bytes(msgspec.json.encode(OWN | rules))
        return self.say("policy", "use", str(file), *ASKED, *words)

    def shown(self) -> Any:
        return json.loads(self.say("policy", "show", "--json").stdout)


def test_a_policy_that_people_put_into_use_judges_the_next_batch(
    broker: Callable[[], Broker], tmp_path: Path
) -> None:
    servers = broker().bootstrap
    vigil = Terminal(servers, tmp_path)
    assert vigil.say("topics", "apply", "--yes").exit_code == 0
    metrics = Metrics(Build(service="scoring", version="0", revision="0", python="3"))
    topic = "0" * 32
    started = engine(SHIPPED, role=Role.SHOWN, topic_id=topic)
    fleet = Fleet(started, opener(MODELS, role=Role.SHOWN, topic_id=topic), CODEC, metrics)
    watch = Watch({"bootstrap.servers": servers}, fleet)
    run = Run(Scorer(CODEC, Live(fleet, watch.look), lambda *_: None))

    own = vigil.shown()
    assert (own["of_the_bundle"], own["policy"]["version"]) == (True, OWN["version"])
    run.hand(log(ward(0)))

    told = vigil.use("--dry-run", version="quiet", units={"MICU": 0.9})
    assert told.stdout.splitlines() == [
        f'version: "{OWN["version"]}" → "quiet"',
        'units: {} → {"MICU":0.9}',
    ]
    assert vigil.shown() == own
    assert vigil.use(version="quiet", units={"MICU": 0.9}).exit_code == 2, "nobody was asked"
    assert vigil.use("--yes", version="quiet", units={"MICU": 0.9}).exit_code == 0
    watch.look()
    run.hand(log(ward(1), first=100))

    assert [batch.policy_version for batch in run.batches] == [OWN["version"], "quiet"]
    scored = [entry["threshold"] for entry in run.entries if entry["threshold"] is not None]
    assert scored == pytest.approx([OWN["threshold"], 0.9])
    shown = vigil.shown()
    assert (shown["of_the_bundle"], shown["policy"]["units"]) == (False, {"MICU": 0.9})

    again = vigil.use("--yes", version="quiet", units={"MICU": 0.9})
    other = vigil.use("--yes", version="quiet", units={"MICU": 0.8})
    bad = vigil.use("--yes", version="bad", clear_below=0.9)
    assert [done.exit_code for done in (again, other, bad)] == [5, 5, 5]
    assert "in use already" in again.stderr
    assert "names other rules" in other.stderr
    assert vigil.shown() == shown


@pytest.fixture
def store(clickhouse: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[ClickHouse]:
    """A database of its own, which is the one that commands ask."""
    server, name = f"http://{clickhouse[0]}:{clickhouse[1]}", f"test_{uuid4().hex}"
    root = ClickHouse(server)
    root.command(f"CREATE DATABASE {name}")
    monkeypatch.setenv("CLICKHOUSE_URL", f"{server}/{name}")
    door = ClickHouse(f"{server}/{name}")
    apply(door, read_migrations())
    yield door
    door.close()
    root.command(f"DROP DATABASE {name}")
    root.close()


def test_scores_on_record_come_back_as_they_were_given_and_in_their_order(
    store: ClickHouse,
) -> None:
    run = Run()
    for hour, rate in enumerate([150.0, 80.0, 190.0]):
        at = START + hour * HOUR
        moved = [admitted("p", at, "e", unit="MICU")] if hour else []
        seen = measured("p", at + 1, {"HR": rate}, encounter=person("e"))
        run.hand(log([*moved, seen], first=10 * hour))
    topic = Source(topic="predictions.v1", topic_id="0" * 32, phi=False, event=PredictionBatch)
    recorder = Recorder("c", {topic.topic: topic}, heads={}, held={}, decode=CODEC.decode)
    written = [CODEC.encode(batch) for batch in run.batches]
    recorder.add(
        [Record(topic.topic, 0, offset, 0, None, value) for offset, value in enumerate(written)]
    )
    write(store, recorder.take())
    expected = [
        Scored(person("e"), START + 1, "", 0.75),
        Scored(person("e"), START + HOUR + 1, "MICU", float(np.float32(0.4))),
        Scored(person("e"), START + 2 * HOUR + 1, "MICU", float(np.float32(0.95))),
    ]
    assert scores_of(MODEL.digest, "", "") == expected
    first, last = "2026-01-01T09:00Z", "2026-01-01T10:00Z"
    assert scores_of(MODEL.digest, first, "") == expected[1:]
    assert scores_of(MODEL.digest, "", last) == expected[:2]
    with pytest.raises(CommandError) as refused:
        scores_of("cd" * 32, "", "")
    assert refused.value.fault is Fault.NO_SCORES


def ward(hour: int) -> list[Vitals]:
    """One patient of a unit, measured."""
    at = START + hour * HOUR
    values = {"HR": 80.0, "O2Sat": 97.0, "Temp": 37.0, "SBP": 120.0, "MAP": 80.0, "Resp": 18.0}
    seen = measured("p", at + 1, values, encounter=person("e"))
    return [admitted("p", at, "e", unit="MICU"), seen]
