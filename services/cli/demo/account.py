"""What the demo can say at its end, asked of the same commands that anyone can run."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from services.cli.demo.watching import Watched


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
        watching: what watching found; None of recorded patients, or without a whole day.
        until: the milestone that was waited for; empty: none.
    """

    sent: dict[str, Any]
    milestones_s: dict[str, float]
    latency_ms: dict[str, float]
    counts: dict[str, dict[str, int]]
    heard: dict[str, int]
    verify: dict[str, Any]
    reconcile: dict[str, Any]
    watching: Watched | None = None
    until: str = ""

    @property
    def reached(self) -> bool:
        """Whether that came which was waited for."""
        return not self.until or self.until in self.milestones_s

    @property
    def adds_up(self) -> bool:
        """Whether every message was answered and every offset proved and explained."""
        answered = self.sent["accepted"] + sum(self.sent["refused"].values())
        told = self.heard == self.counts["alerts"]
        equal = self.watching is None or self.watching.equal
        proved = self.verify["ok"] and self.reconcile["ok"]
        return bool(answered == self.sent["sent"] and told and proved and equal)


def percentiles(latencies_ms: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile; nothing of nothing."""
    if not latencies_ms:
        return {}
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
