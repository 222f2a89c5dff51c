"""A policy that people put into use judges the next batch, and is what everybody reads back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner
from wards import CODEC, START, Run, admitted, log, measured, person

from services.cli.main import app
from services.core.events import Role, Vitals
from services.local.home import REPO
from services.local.kafka import Broker
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


def ward(hour: int) -> list[Vitals]:
    """One patient of a unit, measured."""
    at = START + hour * 3_600_000_000
    values = {"HR": 80.0, "O2Sat": 97.0, "Temp": 37.0, "SBP": 120.0, "MAP": 80.0, "Resp": 18.0}
    seen = measured("p", at + 1, values, encounter=person("e"))
    return [admitted("p", at, "e", unit="MICU"), seen]
