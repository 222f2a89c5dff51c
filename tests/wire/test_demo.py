"""`vigil demo`, whole: everything is accounted for, and nothing is left running."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from services.core.errors import ExitCode
from services.local.conditions import alone
from services.local.ports import is_free

pytestmark = pytest.mark.wire
PATIENCE_S = 500.0
COMMAND = [sys.executable, "-m", "services.cli.main", "demo"]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has room for 107 bytes."""
    with TemporaryDirectory(prefix="vigil-") as folder:
        yield Path(folder)


@pytest.fixture
def environ(home: Path, jar_cache: Path) -> dict[str, str]:
    return {**os.environ, "VIGIL_HOME": str(home), "VIGIL_CACHE": str(jar_cache)}


def nothing_is_left(home: Path) -> bool:
    stack = home / "demo" / "stack"
    ports = json.loads((stack / "ports.json").read_text()).values()
    return not (stack / "run").exists() and all(is_free(port) for port in ports)


def test_the_demo_accounts_for_everything_and_leaves_nothing_running(
    home: Path, environ: dict[str, str]
) -> None:
    file = home / "account.json"
    command = [*COMMAND, "--seconds", "10", "--patients", "12", "--json", str(file)]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == ExitCode.OK, done.stderr
    assert "offsets unexplained" in done.stdout
    holds(json.loads(file.read_text()))
    assert (home / "demo" / "report.html").read_bytes().startswith(b"<!doctype html>")
    assert "What leadership would read of it" in done.stdout
    assert nothing_is_left(home)


def holds(account: dict[str, Any]) -> None:
    """Every number agrees with those that others counted."""
    sent, counts, reconcile = account["sent"], account["counts"], account["reconcile"]
    assert account["schema"] == "vigil.demo/1"
    assert [account["ok"], account["verify"]["ok"], reconcile["ok"]] == [True] * 3
    assert sent["sent"] == sent["accepted"] + sum(sent["refused"].values()) > 0
    assert sum(counts["entries"].values()) == sent["entries"] + sent["ticks"]
    assert counts["entries"] == reconcile["raw_entries"]
    assert sum(counts["predictions"].values()) == reconcile["vitals_records"]
    assert counts["predictions"]["scored"] > 0
    assert counts["alerts"] == account["heard"]
    assert reconcile["unexplained_total"] == 0
    assert account["verify"]["records"] > reconcile["vitals_records"]


def test_ctrl_c_while_patients_stream_in_ends_with_130_and_leaves_nothing(
    home: Path, environ: dict[str, str]
) -> None:
    # A shell that runs us in the background hands SIGINT down ignored; Python then stays deaf.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(COMMAND, env=environ, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if line.startswith("first score"):
                demo.send_signal(signal.SIGINT)
                break
        assert demo.stderr.read().splitlines()[-1] == "stopping everything"
    assert demo.returncode == ExitCode.INTERRUPTED
    assert nothing_is_left(home)


def test_a_second_demo_in_the_same_place_leaves_the_first_alone(
    home: Path, environ: dict[str, str]
) -> None:
    folder = home / "demo"
    folder.mkdir()
    with alone(folder):
        done = subprocess.run(
            COMMAND, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
    assert done.returncode == ExitCode.CONFIGURATION
    assert "another `vigil demo` is at work here" in done.stderr
    assert list(folder.iterdir()) == []
