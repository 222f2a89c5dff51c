"""What Prometheus is told of each batch: what became of entries, alerts, and how late."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import numpy as np
from prometheus_client import Counter as Series
from prometheus_client import Histogram

from services.core.events import Cause, Decision, Disposition, PredictionBatch, Role, Step
from services.runtime.telemetry.metrics import Metrics, observe
from services.scoring.outputs import VITALS
from services.scoring.shares import Share

Told = Callable[[Share, PredictionBatch], None]

HELD: Final = {
    Decision.HELD_PERSISTENCE: "persistence",
    Decision.HELD_REFRACTORY: "refractory",
    Decision.HELD_TRANSFER: "transfer",
    Decision.HELD_EXPIRED: "expired",
}
"""What kept a score from raising an alert: counted, so that silence is seen."""


class Kept:
    """Series that are counted in for each batch: to ask for one by its labels takes longer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.scored, self.delays = lru_cache(None)(self._scored), lru_cache(None)(self._delays)

    def _scored(self, name: str, version: str, disposition: int, cause: int, of: str) -> Series:
        return self._metrics.counter(
            "predictions_total",
            model=name,
            version=version,
            outcome=of + Disposition(disposition).name.lower(),
            reason=Cause(cause).name.lower(),
        )

    def _delays(self, name: str, version: str) -> tuple[Histogram, Histogram]:
        model = {"model": name, "version": version}
        scored = self._metrics.histogram("accepted_to_scored_seconds", **model)
        return scored, self._metrics.histogram("accepted_to_alert_seconds", **model)


def counting(metrics: Metrics, role: Role = Role.SHOWN) -> Told:
    """Count entries by disposition, alert steps by unit; measure delays and event time.

    Args:
        metrics: where to count.
        role: of the service; what scores in the shadow beside it is counted apart, so that it
            calls nobody when it cannot score, and hides nothing when it can.
    """
    kept = Kept(metrics)

    def told(share: Share, batch: PredictionBatch) -> None:
        now = datetime.now(UTC).timestamp()
        model, verdicts = (batch.model_name, batch.model_version), share.verdicts
        beside = batch.role is not role
        pairs = Counter(
            zip(verdicts.dispositions.tobytes(), verdicts.causes.tobytes(), strict=True)
        )
        for pair, many in pairs.items():
            kept.scored(*model, *pair, "shadow_" if beside else "").inc(many)
        if beside:
            return
        delay, alert_delay = kept.delays(*model)
        _, _, accepted_at = share.columns.times
        observe(delay, now - accepted_at[verdicts.scored] / 1e6)
        if batch.role is not Role.SHADOW:  # of which nobody would have been told
            _count_held(metrics, share)
        for alert in share.alerts:
            metrics.counter("alerts_total", unit=alert.unit, outcome=alert.step).inc()
            if alert.step is Step.RAISED:
                alert_delay.observe(now - alert.accepted_at / 1e6)
        if batch.watermark is not None:
            place = {"topic": VITALS, "partition": str(batch.partition)}
            metrics.gauge("watermark_timestamp_seconds", **place).set(batch.watermark / 1e6)

    return told


def _count_held(metrics: Metrics, share: Share) -> None:
    decisions, columns = share.verdicts.decisions, share.columns
    for seat in np.flatnonzero(decisions).tolist():
        by = HELD.get(decisions[seat])
        if by is not None:
            unit = columns.cohorts[columns.groups[seat]][-1]
            metrics.counter("alerts_held_total", unit=unit, outcome=by).inc()
