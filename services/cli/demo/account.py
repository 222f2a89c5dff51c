"""What the demo can say at its end, asked of the same commands that anyone can run."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from services.core.errors import CommandError, ExitCode

DRAINED_S: Final = 90.0
PAUSE_S: Final = 1.0
COUNTS: Final = {
    "entries": "SELECT fate AS name, count() AS n FROM receipts GROUP BY name ORDER BY name",
    "predictions": (
        "SELECT disposition AS name, count() AS n FROM predictions GROUP BY name ORDER BY name"
    ),
    "dead_letters": (
        "SELECT reason AS name, count() AS n FROM dead_letters GROUP BY name ORDER BY name"
    ),
    "alerts": "SELECT step AS name, count() AS n FROM alerts GROUP BY name ORDER BY name",
}


class Vigil:
    """Runs commands of `vigil` against the stack of the demo."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._env = dict(environ)

    def ask(self, *arguments: str) -> tuple[int, Any]:
        """Run a command with --json and give its exit code and its answer.

        Raises:
            CommandError: it gave no answer.
        """
        words = [sys.executable, "-m", "services.cli.main", *arguments, "--json"]
        done = subprocess.run(words, env=self._env, capture_output=True, text=True, check=False)  # noqa: S603 - our own command line
        if done.returncode not in (ExitCode.OK, ExitCode.FINDING) or not done.stdout:
            raise CommandError(
                f"`vigil {' '.join(arguments[:2])}` failed: {done.stderr.strip()[-300:]}",
                "Run `vigil doctor`, then the demo again.",
                ExitCode.UNREACHABLE,
            )
        return done.returncode, json.loads(done.stdout)

    def drained(self) -> tuple[bool, Any]:
        """Wait until every offset is accounted for in the ledger, at most DRAINED_S."""
        deadline = time.monotonic() + DRAINED_S
        code, answer = self.ask("ledger", "reconcile")
        while code != ExitCode.OK and time.monotonic() < deadline:
            time.sleep(PAUSE_S)
            code, answer = self.ask("ledger", "reconcile")
        return code == ExitCode.OK, answer

    def counts(self) -> dict[str, dict[str, int]]:
        """Count what the ledger's tables hold."""
        return {name: self._count(query) for name, query in COUNTS.items()}

    def _count(self, query: str) -> dict[str, int]:
        _, answer = self.ask("sql", query)
        return {str(name): int(number) for name, number in answer["rows"]}
