"""`python -m services.scoring`: vitals.v1 to predictions.v1 and alerts.v1."""

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np

from services.core.errors import CommandError
from services.core.events import Alert, Disposition, PredictionBatch, Role, Step
from services.core.faults import Fault
from services.core.policy import Policy
from services.runtime import bundle
from services.runtime.codec import Codec
from services.runtime.kafka import admin
from services.runtime.kafka.client import Options
from services.runtime.model import OnnxModel
from services.runtime.service import run
from services.runtime.settings import KafkaSettings
from services.runtime.telemetry.metrics import Metrics
from services.runtime.worker import MakeTask, Plan
from services.scoring.entries import Entry, Model
from services.scoring.outputs import CHANGELOG, VITALS
from services.scoring.pipeline import Scorer, Scoring, Told
from services.scoring.settings import ScoringSettings


def main() -> int:
    """Read the settings, then score until told to stop."""
    settings = ScoringSettings()
    options = KafkaSettings().client_options()
    plan = Plan(
        service="scoring", instance=settings.instance, inputs=(VITALS,), changelog=CHANGELOG
    )
    return run(plan, options, settings, lambda metrics: tasks(settings, options, metrics))


def tasks(settings: ScoringSettings, options: Options, metrics: Metrics) -> MakeTask:
    """Load the bundle and give the maker of tasks.

    Raises:
        CommandError: the bundle or its policy cannot be used, or there is no topic of vitals.
    """
    loaded = bundle.load(settings.model)
    onnx = OnnxModel(loaded)
    # Loads LightGBM: seconds that would else pass inside the transaction of the first alert.
    onnx.contributions(np.full(len(loaded.features), np.nan, np.float32))
    scorer = Scorer(
        codec=Codec(settings.schemas),
        onnx=onnx,
        select=loaded.select,
        model=model_of(loaded, settings.role, topic_id=_topic_id(options)),
        policy=policy_of(loaded),
        told=counting(metrics, loaded),
    )
    return lambda partition: Scoring(partition, scorer)


def model_of(loaded: bundle.Bundle, role: Role, *, topic_id: str) -> Model:
    """Say what every batch tells of its model."""
    return Model(
        name=loaded.name,
        version=loaded.version,
        digest=loaded.digest,
        policy_version=policy_of(loaded).version,
        role=role,
        vitals_topic_id=topic_id,
    )


def policy_of(loaded: bundle.Bundle) -> Policy:
    """Read the bundle's policy.

    Raises:
        CommandError: it is none.
    """
    try:
        return msgspec.convert(loaded.policy, Policy)
    except msgspec.ValidationError as error:
        raise CommandError(
            f"The policy of the bundle {loaded.name} {loaded.version} cannot be read: {error}.",
            "Mend policy.json and make the bundle again.",
            Fault.POLICY,
        ) from error


def counting(metrics: Metrics, loaded: bundle.Bundle) -> Told:
    """Count entries by disposition, alert steps by unit; measure delays and event time."""
    name, version = loaded.name, loaded.version
    delay = metrics.histogram("accepted_to_scored_seconds", model=name, version=version)
    alert_delay = metrics.histogram("accepted_to_alert_seconds", model=name, version=version)

    def told(entries: Sequence[Entry], alerts: Sequence[Alert], batch: PredictionBatch) -> None:
        now = datetime.now(UTC).timestamp()
        for (disposition, cause), many in Counter(
            (e.disposition, e.cause) for e in entries
        ).items():
            metrics.counter(
                "predictions_total",
                model=name,
                version=version,
                outcome=disposition.name.lower(),
                reason=cause.name.lower(),
            ).inc(many)
        for entry in entries:
            if entry.event is not None and entry.disposition is Disposition.SCORED:
                delay.observe(now - entry.event.accepted_at / 1e6)
        for alert in alerts:
            metrics.counter("alerts_total", unit=alert.unit, outcome=alert.step).inc()
            if alert.step is Step.RAISED:
                alert_delay.observe(now - alert.accepted_at / 1e6)
        if batch.watermark is not None:
            place = {"topic": VITALS, "partition": str(batch.partition)}
            metrics.gauge("watermark_timestamp_seconds", **place).set(batch.watermark / 1e6)

    return told


def _topic_id(options: Options) -> str:
    found = admin.topics(options).get(VITALS)
    if found is None:
        raise CommandError(
            f"Kafka has no topic {VITALS}.", "Run `vigil topics apply`.", Fault.NO_TOPIC
        )
    return found.topic_id


if __name__ == "__main__":
    sys.exit(main())
