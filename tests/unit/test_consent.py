"""Commands that change something show it first, and take nobody's silence for yes."""

import io
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner
from typing_extensions import override

from services.cli.baseline import difference
from services.cli.consent import ask
from services.cli.main import app
from services.core.baseline import decode
from services.core.errors import CommandError
from services.core.events import Change
from services.core.faults import Fault
from services.local.home import REPO

CHANGING = (
    ["topics", "apply"],
    ["topics", "freeze"],
    ["ledger", "migrate"],
    ["ledger", "rebuild"],
    ["dashboards", "build"],
    ["drift", "baseline", "use"],
    ["models", "deploy"],
    ["models", "withdraw"],
    ["models", "rollback"],
    ["policy", "use"],
    ["keys", "rotate"],
)


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("words", CHANGING, ids=" ".join)
def test_every_command_that_changes_something_asks_unless_told_not_to(words: list[str]) -> None:
    told = CliRunner().invoke(app, [*words, "--help"]).output
    assert "--yes" in told


def test_nobody_at_the_terminal_is_no_consent() -> None:
    with pytest.raises(CommandError) as refused:
        ask(["one thing"], "Change it?", look="vigil look", go="vigil go --yes")
    assert refused.value.fault is Fault.UNASKED
    assert "`vigil look`" in refused.value.remedy
    assert "`vigil go --yes`" in refused.value.remedy


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_what_would_change_is_shown_before_the_answer_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    agreed = True
    try:
        ask(["one thing"], "Change it?", look="look", go="go")
    except typer.Abort:
        agreed = False
    assert agreed == (answer == "y")
    assert capsys.readouterr().err.startswith("one thing\nChange it?")


def test_schemas_land_only_when_somebody_says_so(tmp_path: Path) -> None:
    schemas = tmp_path / "schemas"
    shutil.copytree(REPO / "schemas", schemas)
    landed = {path.name for path in (schemas / "history").iterdir()}
    text = (schemas / "events" / "Signal.avsc").read_text()
    [gone] = [path for path in (schemas / "history").glob("*.avsc") if path.read_text() == text]
    gone.unlink()
    env = {"VIGIL_SCHEMAS": str(schemas)}
    looked = CliRunner().invoke(app, ["topics", "freeze", "--dry-run"], env=env)
    assert looked.stdout.split()[0].endswith("Signal")
    refused = CliRunner().invoke(app, ["topics", "freeze"], env=env)
    assert (refused.exit_code, gone.exists()) == (2, False)
    assert CliRunner().invoke(app, ["topics", "freeze", "--yes"], env=env).exit_code == 0
    assert {path.name for path in (schemas / "history").iterdir()} == landed


def test_the_difference_of_a_baseline_names_both_who_and_why() -> None:
    content = (REPO / "services/simulator/baselines/ward.json").read_bytes()
    baseline = decode(content)
    change = Change(
        change_id="c-1",
        kind="baseline",
        subject="baseline/site",
        made_at=0,
        effective_from=0,
        requested_by="A. Name",
        approved_by="B. Name",
        reason="new oximeters",
        before="ab" * 32,
        after=baseline.digest,
        content=content,
    )
    told = "\n".join(difference(change, baseline))
    for part in ("ab" * 32, baseline.digest, "A. Name", "B. Name", "new oximeters", "1970-01-01"):
        assert part in told
