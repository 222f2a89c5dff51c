"""What `vigil models` asks, refuses, writes and shows."""

import json
from pathlib import Path
from typing import Any

import pytest
from bundles import trained, write_bundle
from typer.testing import CliRunner

from services.cli.main import app
from services.core.errors import CommandError
from services.core.events import Change
from services.core.faults import Fault
from services.core.lineup import History, LineUp, Part, Seat
from services.runtime.bundle import load

ASKED = ["--requested-by", "anna", "--approved-by", "bert", "--reason", "better"]


class Topic:
    """The changes as the command sees them: kept here instead of in Kafka."""

    def __init__(self) -> None:
        self.history = History()
        self.written: list[Change] = []
        self.overtaken = False

    def publish(self, change: Change) -> None:
        if self.overtaken:
            raise CommandError("overtaken", "decide anew", Fault.OVERTAKEN)
        self.written.append(change)
        self.history.take(change, len(self.written))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, text = tmp_path_factory.mktemp("models"), trained()
    for version in ("1.0.0", "1.1.0"):
        write_bundle(folder / "noise" / version, text)
    return folder


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch, models: Path, tmp_path: Path) -> Topic:
    found = Topic()
    monkeypatch.setattr("services.cli.models.Log", lambda: found)
    monkeypatch.setenv("VIGIL_MODELS", str(models))
    monkeypatch.setenv("VIGIL_HOME", str(tmp_path))
    return found


def vigil(*words: str) -> Any:
    return CliRunner().invoke(app, ["models", *words])


def deploy(version: str, *words: str) -> Any:
    return vigil("deploy", f"noise/{version}", *words, *ASKED, "--yes", "--json")


def test_a_deployment_is_a_change_with_the_names_behind_it(topic: Topic, models: Path) -> None:
    digest = load(models / "noise" / "1.0.0").digest
    done = deploy("1.0.0", "--role", "champion")
    assert done.exit_code == 0, done.output
    (change,) = topic.written
    assert (change.kind, change.subject) == ("deployment", "model/champion")
    assert (change.before, change.after) == ("", digest)
    assert (change.requested_by, change.approved_by, change.reason) == ("anna", "bert", "better")
    assert topic.history.now == LineUp(champion=Seat(name="noise", version="1.0.0", digest=digest))
    assert json.loads(done.stdout)["change_id"] == change.change_id


def test_a_dry_run_shows_and_writes_nothing(topic: Topic) -> None:
    done = vigil("deploy", "noise/1.1.0", "--role", "canary", "--share", "5", *ASKED, "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.startswith("+ canary noise 1.1.0 ")
    assert done.stdout.endswith(" for 5 % of the patients\n")
    assert topic.written == []


@pytest.mark.parametrize(
    "words",
    [
        ["--role", "canary"],
        ["--role", "champion", "--share", "10"],
        ["--role", "canary", "--share", "100"],
        ["--role", "king"],
    ],
    ids=" ".join,
)
def test_a_share_is_a_canarys_and_nobody_elses(topic: Topic, words: list[str]) -> None:
    assert deploy("1.0.0", *words).exit_code == 2
    assert topic.written == []


@pytest.mark.parametrize("missing", ["anna", "bert", "better"])
def test_nobody_deploys_without_names_and_a_reason(topic: Topic, missing: str) -> None:
    asked = [" " if word == missing else word for word in ASKED]
    words = ["deploy", "noise/1.0.0", "--role", "shadow", *asked, "--yes"]
    assert vigil(*words).exit_code == 2
    assert topic.written == []


def test_a_bundle_has_one_part(topic: Topic) -> None:
    assert deploy("1.0.0", "--role", "champion").exit_code == 0
    refused = deploy("1.0.0", "--role", "shadow")
    assert (refused.exit_code, "VGL-5403" in refused.output) == (5, True)
    assert len(topic.written) == 1


def test_a_rollback_says_what_comes_back_and_needs_something_to_take_back(topic: Topic) -> None:
    nothing = vigil("rollback", *ASKED, "--yes")
    assert (nothing.exit_code, "VGL-2401" in nothing.output) == (2, True)
    for version in ("1.0.0", "1.1.0"):
        deploy(version, "--role", "champion")
    done = vigil("rollback", *ASKED, "--yes")
    gone, come, _ = done.stdout.splitlines()
    assert gone.startswith("- champion noise 1.1.0 ")
    assert come.startswith("+ champion noise 1.0.0 ")
    first, second, third = topic.written
    assert (third.before, third.after) == (second.after, first.after)


def test_a_shadow_is_withdrawn_by_its_name(topic: Topic) -> None:
    unknown = vigil("withdraw", "noise/1.1.0", *ASKED, "--yes")
    assert (unknown.exit_code, "VGL-2401" in unknown.output) == (2, True)
    deploy("1.1.0", "--role", "shadow")
    assert vigil("withdraw", "noise/1.1.0", *ASKED, "--yes").exit_code == 0
    assert topic.history.now == LineUp()
    assert topic.written[-1].subject == "model/shadow"


def test_whoever_was_overtaken_is_told(topic: Topic) -> None:
    topic.overtaken = True
    done = deploy("1.0.0", "--role", "champion")
    assert (done.exit_code, "VGL-5404" in done.output) == (5, True)


@pytest.mark.parametrize("at_work", [None, "1.0.0", "1.1.0"])
def test_the_list_says_since_when_by_whom_and_whether_scoring_has_it(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, at_work: str | None
) -> None:
    deploy("1.0.0", "--role", "champion")
    deploy("1.1.0", "--role", "shadow")
    told = at_work and {(Part.CHAMPION, "noise", at_work), (Part.SHADOW, "noise", "1.1.0")}
    monkeypatch.setattr("services.cli.deployment.at_work", lambda: told)
    done = vigil("list", "--json")
    champion, shadow = json.loads(done.stdout)["models"]
    assert champion["since"] == topic.written[0].made_at, "what came later changed it not"
    assert shadow["since"] == topic.written[1].made_at
    assert champion["requested_by"] == "anna"
    assert champion["at_work"] is (None if at_work is None else at_work == "1.0.0")
    assert done.exit_code == (1 if at_work == "1.1.0" else 0)
    plain = vigil("list").stdout
    assert "approved by bert" in plain
    assert ("NOT at work" in plain) == (at_work == "1.1.0")
