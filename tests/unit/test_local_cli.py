"""The tree of commands: quick to answer, and one sentence when something cannot be done."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from services.cli import main
from services.core.errors import CommandError, ExitCode, Retry
from services.core.faults import Fault
from services.local.home import REPO

HEAVY = {
    "aiohttp",
    "avro",
    "chdb",
    "clickhouse_connect",
    "confluent_kafka",
    "cryptography",
    "fastapi",
    "fastavro",
    "fhir",
    "jgo",
    "lightgbm",
    "msgspec",
    "numpy",
    "onnxruntime",
    "pandas",
    "polars",
    "pydantic",
    "rich",
    "sklearn",
    "structlog",
    "supervisor",
    "yaml",
}


def _imported(*arguments: str) -> set[str]:
    line = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=REPO)
    names = (row.rpartition("|")[2].strip() for row in done.stderr.splitlines() if "|" in row)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(flag: str) -> None:
    imported = _imported("-m", "services.cli.main", flag)
    assert "typer" in imported
    assert imported & HEAVY == set()


def test_completion_loads_every_command_and_nothing_heavy() -> None:
    modules = sorted({target.partition(":")[0] for target, _ in main.COMMANDS.values()})
    assert _imported("-c", f"import {', '.join(modules)}") & HEAVY == set()


@pytest.mark.parametrize("name", sorted(main.COMMANDS))
def test_every_command_of_the_table_has_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(name, "--help") == ExitCode.OK
    assert f"Usage: vigil {name}" in capsys.readouterr().out


def test_an_unknown_command_is_a_usage_error() -> None:
    assert _run("no-such-thing") == ExitCode.USAGE


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Gives the tree a command `fails` that raises what it is told to."""

    def will_raise(error: BaseException) -> None:
        def fails() -> None:
            raise error

        monkeypatch.setattr(main, "_load", lambda _: typer.main.get_command(_single(fails)))
        monkeypatch.setitem(main.COMMANDS, "fails", ("", ""))

    return will_raise


def _single(function: Callable[[], None]) -> typer.Typer:
    app = typer.Typer()
    app.command()(function)
    return app


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main.app(list(arguments), prog_name="vigil")
    return int(ended.value.code or 0)


def test_what_a_command_cannot_do_is_a_code_a_sentence_a_remedy_and_its_exit_code(
    doing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    doing(CommandError("the ward is closed", "open it", Fault.ONLY_ASKS))
    assert _run("fails") == ExitCode.REFUSED
    told = "vigil: VGL-5301 the ward is closed\n  what to do: open it\n"
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Retry("Kafka: no answer"), ExitCode.UNREACHABLE, "Kafka: no answer"),
        (OSError(errno.ENOSPC, "full"), ExitCode.CONFIGURATION, "the disk is full"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, ""),
        (typer.Abort(), ExitCode.INTERRUPTED, ""),
        (KeyError("x"), ExitCode.CRASH, "VGL-7001 unexpected KeyError"),
    ],
)
def test_other_ends_have_their_exit_code_too(
    doing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: ExitCode,
    words: str,
) -> None:
    doing(error)
    assert _run("fails") == code
    assert words in capsys.readouterr().err


def test_a_command_finds_the_stack_that_runs_here_unless_told_of_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    told = {"CLICKHOUSE_URL": "http://127.0.0.1:1", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:2"}
    (tmp_path / "run" / "environment.json").write_text(json.dumps(told))
    monkeypatch.setattr(os, "environ", {"VIGIL_HOME": str(tmp_path), "CLICKHOUSE_URL": "mine"})
    main.adopt_running_stack()
    assert os.environ["CLICKHOUSE_URL"] == "mine"
    assert os.environ["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:2"


def test_an_old_python_is_named_before_anything_fails() -> None:
    assert main.wrong_python((3, 11)) is None
    assert "this is Python 3.10" in str(main.wrong_python((3, 10)))
