"""A command of `vigil` run as its own process, with an environment of its own."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from services.core.errors import CommandError
from services.core.faults import Fault


def vigil(arguments: tuple[str, ...], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Waits for `vigil ARGUMENTS` and gives its exit code, stdout and stderr."""
    line = [sys.executable, "-m", "services.cli.main", *arguments]
    return subprocess.run(line, env=dict(env), capture_output=True, text=True, check=False)  # noqa: S603 - our own command line


def ask(question: str, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Asks the store by `vigil sql`, so that user, password and limits are those of everybody.

    Raises:
        CommandError: there is no answer; the text is the first line of what was said instead.
    """
    done = vigil(("sql", question, "--json"), env)
    if done.returncode:
        raise CommandError(
            said(done), "`vigil ledger migrate`, `vigil status`", Fault.STORE_SILENT
        )
    answer = json.loads(done.stdout)
    return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The first line of what a command complained of, without its code."""
    first = re.sub(r"^vigil: (VGL-\d{4} )?", "", done.stderr.strip().partition("\n")[0])
    return first or f"it ended with exit code {done.returncode}"
