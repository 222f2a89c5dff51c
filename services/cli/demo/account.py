"""What the demo can say at its end, asked of the same commands that anyone can run."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from services.core.errors import CommandError, ExitCode
from services.local.command import vigil

DRAINED_S: Final = 90.0
PAUSE_S: Final = 1.0
COUNTS: Final = {
    "entries": "SELECT fate AS name, count() AS n FROM receipts GROUP BY name ORDER BY name",
    "dead_letters": (
        "SELECT reason AS name, count() AS n FROM dead_letters GROUP BY name ORDER BY name"
    ),
    "predictions": (
        "SELECT disposition AS name, count() AS n FROM predictions GROUP BY name ORDER BY name"
    ),
    "alerts": "SELECT step AS name, count() AS n FROM alerts GROUP BY name ORDER BY name",
}


class Course(msgspec.Struct, kw_only=True):
    """What the demo found out.

    Attributes:
        sent: of the messages, as the sender counts them.
        milestones_s: since the start.
        latency_ms: from the gateway's acceptance to a raised alert in the hands of a subscriber;
            empty if none was raised.
        counts: of the ledger's rows, by table and name.
        heard: alerts by step, as a subscriber saw them.
        verify: answer of `vigil ledger verify`.
        reconcile: answer of `vigil ledger reconcile`.
    """

    sent: dict[str, Any]
    milestones_s: dict[str, float]
    latency_ms: dict[str, float]
    counts: dict[str, dict[str, int]]
    heard: dict[str, int]
    verify: dict[str, Any]
    reconcile: dict[str, Any]

    @property
    def adds_up(self) -> bool:
        """Whether every message was answered and every offset proved and explained."""
        answered = self.sent["accepted"] + sum(self.sent["refused"].values())
        told = self.heard == self.counts["alerts"]
        return bool(
            answered == self.sent["sent"] and told and self.verify["ok"] and self.reconcile["ok"]
        )


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
                ExitCode.UNREACHABLE,
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


def percentiles(latencies_ms: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile; nothing of nothing."""
    if not latencies_ms:
        return {}
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
