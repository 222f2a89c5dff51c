"""Every error has a code, every code is used and told, and nothing of a value is said."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings
from typer.testing import CliRunner

from services.cli.ending import ended
from services.cli.errors import page
from services.cli.main import app
from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault
from services.local.home import REPO

SOURCES = [
    path
    for path in sorted((REPO / "services").rglob("*.py"))
    if "from services.core.faults import Fault" in path.read_text()
]
FAULTS = list(Fault)


def used(path: Path) -> Iterator[str]:
    """Name the faults that a file raises."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="Fault"), attr=name):
                yield name
            case _:
                pass


def test_every_code_is_raised_somewhere() -> None:
    raised = {name for path in SOURCES for name in used(path)}
    assert raised == {fault.name for fault in FAULTS}


def test_no_two_errors_have_one_number_and_its_first_digit_is_an_exit_code() -> None:
    numbers = [fault.number for fault in FAULTS]
    assert sorted(set(numbers)) == numbers
    ends = {int(code) for code in ExitCode} | {int(ExitCode.CRASH) // 10}
    assert {number // 1000 for number in numbers} <= ends - {ExitCode.OK, ExitCode.FINDING}


def test_the_page_is_what_the_table_says() -> None:
    told = (REPO / "docs" / "errors.md").read_text()
    assert told == page(), "vigil errors --markdown > docs/errors.md"
    assert re.findall(r"^\| (VGL-\d{4}) ", told, re.MULTILINE) == [f.code for f in FAULTS]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
def test_a_code_says_what_happened_and_what_to_do_in_a_sentence_each(fault: Fault) -> None:
    for text in (fault.means, fault.remedy):
        assert re.fullmatch(r"[A-Z`].+\.", text)
        assert "|" not in text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
def test_a_remedy_names_commands_that_exist(fault: Fault) -> None:
    for command in re.findall(r"`vigil ([a-z][a-z ]*)", fault.remedy):
        done = CliRunner().invoke(app, [*command.split(), "--help"])
        assert done.exit_code == 0, command


def test_an_error_ends_with_the_first_digit_of_its_code_unless_told_otherwise() -> None:
    for fault in FAULTS:
        if fault is not Fault.UNEXPECTED:
            assert CommandError("a", "b", fault).exit_code == fault.number // 1000
    passed_on = CommandError("a", "b", Fault.PREPARATION, ExitCode.REFUSED)
    assert passed_on.exit_code is ExitCode.REFUSED


def test_what_is_unexpected_tells_its_place_and_not_its_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyError) as failed:
        _look_up("Jane Doe")
    assert ended(failed.value) == ExitCode.CRASH
    told = capsys.readouterr().err
    assert Path(__file__).name in told
    assert "VGL-7001 unexpected KeyError" in told
    assert told.count("Jane Doe") == 1, "the line of this test alone"


def _look_up(name: str) -> str:
    known: dict[str, str] = {}
    return known[name]


def test_a_setting_that_is_wrong_is_named_without_its_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoreSettings(BaseSettings):
        timeout_s: float = 1.0

    monkeypatch.setenv("TIMEOUT_S", "hunter2")
    with pytest.raises(ValueError, match="timeout") as wrong:
        StoreSettings()
    assert ended(wrong.value) == ExitCode.CONFIGURATION
    told = capsys.readouterr().err
    assert told.startswith("vigil: VGL-3002 CLICKHOUSE_TIMEOUT_S missing or wrong\n")
    assert "hunter2" not in told


@pytest.mark.parametrize(
    "line", [["no-such-thing"], ["--no-such-option"], ["errors", "--lost"], ["sql"]]
)
def test_a_command_line_that_is_not_understood_has_a_code_and_says_where_help_is(
    line: list[str],
) -> None:
    done = CliRunner().invoke(app, line, prog_name="vigil")
    assert done.exit_code == ExitCode.USAGE
    assert re.match(r"vigil: VGL-2001 .+\n  what to do: `vigil.* --help`\n", done.stderr)
