"""`python -m services.scoring`: vitals.v1 to predictions.v1 and alerts.v1."""

import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services.core.errors import CommandError
from services.core.events import Cause, Decision, Disposition, PredictionBatch, Role, Step
from services.core.faults import Fault
from services.core.lineup import Seat
from services.runtime import bundle
from services.runtime.codec import Codec
from services.runtime.kafka import admin
from services.runtime.kafka.client import Options
from services.runtime.model import OnnxModel
from services.runtime.service import run
from services.runtime.settings import KafkaSettings
from services.runtime.telemetry.metrics import Metrics, observe
from services.runtime.worker import MakeTask, Plan
from services.scoring.crew import Engine
from services.scoring.entries import Model
from services.scoring.fleet import Fleet, Live, Open, Watch
from services.scoring.horizon import nowhere
from services.scoring.lookout import Lookout
from services.scoring.outputs import CHANGELOG, VITALS
from services.scoring.pipeline import Scorer, Scoring, Told
from services.scoring.settings import ScoringSettings
from services.scoring.shares import Share
from services.scoring.warm import warm

HELD: Final = {
    Decision.HELD_PERSISTENCE: "persistence",
    Decision.HELD_REFRACTORY: "refractory",
    Decision.HELD_TRANSFER: "transfer",
    Decision.HELD_EXPIRED: "expired",
}
"""What kept a score from raising an alert: counted, so that silence is seen."""


def main() -> int:
    """Read the settings, then score until told to stop."""
    settings = ScoringSettings()
    options = KafkaSettings().client_options()
    plan = Plan(
        service="scoring", instance=settings.instance, inputs=(VITALS,), changelog=CHANGELOG
    )
    return run(
        plan, options, settings, lambda metrics: tasks(settings, options, metrics, follow=True)
    )


def tasks(
    settings: ScoringSettings, options: Options, metrics: Metrics, *, follow: bool = False
) -> MakeTask:
    """Load the models that people put into use and give the maker of tasks.

    Args:
        settings: of scoring.
        options: of the cluster.
        metrics: of the service.
        follow: whether to take up what people change from now on, in a thread of its own.

    Raises:
        CommandError: the configured bundle cannot be used, or there is no topic of vitals.
        Retry: changes.v1 cannot be read.
    """
    role, topic_id, codec = settings.role, _topic_id(options), Codec(settings.schemas)
    warm(codec)
    configured = engine(settings.model, role=role, topic_id=topic_id)
    open_ = opener(settings.models, role=role, topic_id=topic_id)
    fleet = Fleet(configured, open_, codec, metrics)
    changes = Watch(options, fleet)
    if follow:
        changes.watch()
    look = Lookout(options, codec, time.time) if follow else nowhere
    scorer = Scorer(codec, Live(fleet, changes.look), counting(metrics, role), look)
    return lambda partition: Scoring(partition, scorer)


def opener(models: Path, *, role: Role, topic_id: str) -> Open:
    """Say how a model is opened that lies among others; see `engine`."""

    def open_(seat: Seat) -> Engine:
        path = bundle.find(models, seat.name, seat.digest)
        return engine(path, digest=seat.digest, role=role, topic_id=topic_id)

    return open_


def engine(path: Path, *, digest: str | None = None, role: Role, topic_id: str) -> Engine:
    """Load a bundle, hold it to everything that a bundle must be, and let it rehearse.

    Args:
        path: its folder.
        digest: the one that is expected, if one was agreed on.
        role: whether what it says is shown.
        topic_id: of the vitals topic.

    Raises:
        BundleRefused: it cannot be used.
    """
    loaded = bundle.load(path, digest=digest)
    policy, onnx = bundle.policy_of(loaded), OnnxModel(loaded)
    onnx.rehearse()
    model = Model(
        name=loaded.name,
        version=loaded.version,
        digest=loaded.digest,
        policy_version=policy.version,
        role=role,
        vitals_topic_id=topic_id,
    )
    return Engine(model, onnx, loaded.select, policy, bundle.support_of(loaded))


def counting(metrics: Metrics, role: Role = Role.SHOWN) -> Told:
    """Count entries by disposition, alert steps by unit; measure delays and event time.

    Args:
        metrics: where to count.
        role: of the service; what scores in the shadow beside it is counted apart, so that it
            calls nobody when it cannot score, and hides nothing when it can.
    """

    def told(share: Share, batch: PredictionBatch) -> None:
        now = datetime.now(UTC).timestamp()
        model = {"model": batch.model_name, "version": batch.model_version}
        if batch.role is not role:
            _count_dispositions(metrics, share, model, prefix="shadow_")
            return
        delay = metrics.histogram("accepted_to_scored_seconds", **model)
        alert_delay = metrics.histogram("accepted_to_alert_seconds", **model)
        _count_dispositions(metrics, share, model)
        _, _, accepted_at = share.columns.times
        observe(delay, now - accepted_at[share.verdicts.scored] / 1e6)
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
    for decision, by in HELD.items():
        for group in columns.groups[decisions == decision].tolist():
            unit = columns.cohorts[group][-1]
            metrics.counter("alerts_held_total", unit=unit, outcome=by).inc()


def _count_dispositions(
    metrics: Metrics, share: Share, model: dict[str, str], *, prefix: str = ""
) -> None:
    verdicts = share.verdicts
    pairs = Counter(zip(verdicts.dispositions.tolist(), verdicts.causes.tolist(), strict=True))
    for (disposition, cause), many in pairs.items():
        outcome, reason = prefix + Disposition(disposition).name.lower(), Cause(cause).name.lower()
        metrics.counter("predictions_total", **model, outcome=outcome, reason=reason).inc(many)


def _topic_id(options: Options) -> str:
    found = admin.topics(options).get(VITALS)
    if found is None:
        raise CommandError(
            f"Kafka has no topic {VITALS}.", "Run `vigil topics apply`.", Fault.NO_TOPIC
        )
    return found.topic_id


if __name__ == "__main__":
    sys.exit(main())
