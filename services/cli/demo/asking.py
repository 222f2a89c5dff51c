"""Questions that the demo asks of the same commands that anyone can run."""

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault
from services.local.command import vigil

DRAINED_S: Final = 90.0
PAUSE_S: Final = 1.0
COUNTS: Final = {
    "entries": "SELECT fate AS name, count() AS n FROM receipts GROUP BY name ORDER BY name",
    "dead_letters": (
        "SELECT reason AS name, count() AS n FROM dead_letters GROUP BY name ORDER BY name"
    ),
    "predictions": (
        "SELECT disposition AS name, count() AS n FROM predictions WHERE role = 'shown'"
        " GROUP BY name ORDER BY name"
    ),
    "alerts": "SELECT step AS name, count() AS n FROM alerts GROUP BY name ORDER BY name",
}


class Vigil:
    """Runs commands of `vigil` against the stack of the demo."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._env = dict(environ)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Run a command with --json and give its answer.

        Raises:
            CommandError: it gave no answer.
        """
        done = vigil((*arguments, "--json"), self._env)
        if done.returncode not in (ExitCode.OK, ExitCode.FINDING) or not done.stdout:
            raise CommandError(
                f"`vigil {' '.join(arguments[:2])}` failed: {done.stderr.strip()[-300:]}",
                "Run the demo again; if it fails again, `vigil doctor` says what is the matter.",
                Fault.DEMO_FAILED,
            )
        return dict(json.loads(done.stdout))

    def drained(self) -> dict[str, Any]:
        """Reconcile until every offset is accounted for in the ledger, at most DRAINED_S."""
        deadline = time.monotonic() + DRAINED_S
        answer = self.ask("ledger", "reconcile")
        while not answer["ok"] and time.monotonic() < deadline:
            time.sleep(PAUSE_S)
            answer = self.ask("ledger", "reconcile")
        return answer

    def counts(self) -> dict[str, dict[str, int]]:
        """Count what the ledger's tables hold."""
        return {name: self._count(query) for name, query in COUNTS.items()}

    def _count(self, query: str) -> dict[str, int]:
        rows = self.ask("sql", query)["rows"]
        return {str(name): int(number) for name, number in rows}
