"""A policy that people put into use judges the next batch, and is what everybody reads back."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from typer.testing import CliRunner
from wards import (
    CODEC,
    HOUR,
    MODEL,
    POLICY,
    START,
    Run,
    admitted,
    log,
    measured,
    person,
    scorer,
    ward_log,
)

from services.audit.migrate import apply, read_migrations
from services.audit.recorder import Recorder, Source
from services.audit.writer import write
from services.cli.main import app
from services.cli.trial import retried
from services.core.errors import CommandError
from services.core.events import Decision, PredictionBatch, Role, Step, Vitals
from services.core.faults import Fault
from services.core.policy import Transfer
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


TRIED = msgspec.structs.replace(
    POLICY,
    version="tried",
    threshold=0.5,
    clear_below=0.45,
    severity=[0.65, 0.7],
    persistence=2,
    transfer=Transfer(to=["unit 2"], silent_h=3),
    valid_for_h=2,
)


def recorded(store: ClickHouse, records: list[Record], run: Run) -> None:
    """Put a log and what scoring wrote of it into the ledger."""
    sources = {
        "vitals.v1": Source(
            topic="vitals.v1",
            topic_id=MODEL.vitals_topic_id.replace("-", ""),
            phi=False,
            event=Vitals,
        ),
        "predictions.v1": Source(
            topic="predictions.v1", topic_id="1" * 32, phi=False, event=PredictionBatch
        ),
    }
    recorder = Recorder("c", sources, heads={}, held={}, decode=CODEC.decode)
    written = [CODEC.encode(batch) for batch in run.batches]
    recorder.add(records)
    recorder.add([Record("predictions.v1", 3, n, 0, None, v) for n, v in enumerate(written)])
    write(store, recorder.take())


def decided(run: Run, begin: int = 0, end: int = 1 << 62) -> Counter[Decision]:
    scored = [e for e in run.entries if e["score"] is not None and begin <= e["as_of"] < end]
    return Counter(Decision[e["decision"]] for e in scored)


def test_what_is_on_record_is_judged_as_scoring_judged_it_with_corrections_and_moves(
    store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cli.trial.PAGE", 40)
    records = log(ward_log(5, hours=24, patients=4))
    live = {policy.version: Run(scorer(policy)).hand(records) for policy in (POLICY, TRIED)}
    recorded(store, records, live[POLICY.version])
    told = retried(MODEL.digest, "", "", {policy.version: policy for policy in (POLICY, TRIED)})
    for version, run in live.items():
        assert told[version].decisions == decided(run)
        assert told[version].steps == Counter(alert.step for alert in run.alerts)
    assert told[POLICY.version].steps[Step.WITHDRAWN] > 0
    assert told[POLICY.version].steps != told[TRIED.version].steps


def test_a_trial_is_of_the_time_that_is_asked_for(store: ClickHouse) -> None:
    at = START + 24 * HOUR
    quiet = [
        measured("p", START + h * HOUR, {"HR": 80.0}, encounter=person("e")) for h in range(24)
    ]
    high = measured("p", at, {"HR": 150.0}, encounter=person("e"))
    lower = measured("p", at, {"HR": 80.0}, encounter=person("e"), version=2)
    records = log([*quiet, high, lower])
    recorded(store, records, Run(scorer(POLICY)).hand(records))
    asked = partial(retried, MODEL.digest, policies={"it": POLICY})
    late = asked("2026-01-02T08:00Z", "")["it"]
    assert (late.scores, dict(late.steps)) == (2, {Step.RAISED: 1, Step.WITHDRAWN: 1})
    early = asked("", "2026-01-01T20:00Z")["it"]
    assert (early.scores, dict(early.steps)) == (12, {})
    for digest, since in ((MODEL.digest, "2026-02-01"), ("cd" * 32, "")):
        with pytest.raises(CommandError) as refused:
            retried(digest, since, "", {"it": POLICY})
        assert refused.value.fault is Fault.NO_SCORES


def ward(hour: int) -> list[Vitals]:
    """One patient of a unit, measured."""
    at = START + hour * HOUR
    values = {"HR": 80.0, "O2Sat": 97.0, "Temp": 37.0, "SBP": 120.0, "MAP": 80.0, "Resp": 18.0}
    seen = measured("p", at + 1, values, encounter=person("e"))
    return [admitted("p", at, "e", unit="MICU"), seen]
