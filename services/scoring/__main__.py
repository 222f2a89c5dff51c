"""`python -m services.scoring`: vitals.v1 to predictions.v1 and alerts.v1."""

import sys
import time
from pathlib import Path

from services.core.errors import CommandError
from services.core.events import Role
from services.core.faults import Fault
from services.core.lineup import Seat
from services.runtime import bundle
from services.runtime.codec import Codec
from services.runtime.kafka import admin
from services.runtime.kafka.client import Options
from services.runtime.model import OnnxModel
from services.runtime.service import run
from services.runtime.settings import KafkaSettings
from services.runtime.telemetry.metrics import Metrics
from services.runtime.worker import MakeTask, Plan
from services.scoring.counting import counting
from services.scoring.crew import Engine
from services.scoring.entries import Model
from services.scoring.fleet import Fleet, Live, Open, Watch
from services.scoring.horizon import nowhere
from services.scoring.lookout import Lookout
from services.scoring.outputs import CHANGELOG, VITALS
from services.scoring.pipeline import READ_AT_ONCE, Scorer, Scoring
from services.scoring.settings import ScoringSettings
from services.scoring.warm import warm


def main() -> int:
    """Read the settings, then score until told to stop."""
    settings = ScoringSettings()
    options = KafkaSettings().client_options()
    plan = Plan(
        service="scoring",
        instance=settings.instance,
        inputs=(VITALS,),
        changelog=CHANGELOG,
        at_once=READ_AT_ONCE,
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


def _topic_id(options: Options) -> str:
    found = admin.topics(options).get(VITALS)
    if found is None:
        raise CommandError(
            f"Kafka has no topic {VITALS}.", "Run `vigil topics apply`.", Fault.NO_TOPIC
        )
    return found.topic_id


if __name__ == "__main__":
    sys.exit(main())
