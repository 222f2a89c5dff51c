"""`python -m services.labelling`: predictions, alerts, answers and outcomes to labelled.v1."""

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Final

from services.core.errors import CommandError, Reason
from services.core.faults import Fault
from services.core.labels import Rule
from services.core.windows import HOUR
from services.labelling.outputs import CHANGELOG, INPUTS, LABELLED
from services.labelling.pipeline import Joined, Labeller, Labelling
from services.labelling.settings import LabellingSettings
from services.runtime.codec import Codec
from services.runtime.kafka import admin
from services.runtime.kafka.client import Options
from services.runtime.service import run
from services.runtime.settings import KafkaSettings
from services.runtime.telemetry.metrics import Metrics
from services.runtime.worker import MakeTask, Plan

GATHER_S: Final = 0.5


def main() -> int:
    """Read the settings, then label until told to stop."""
    settings = LabellingSettings()
    options = KafkaSettings().client_options()
    plan = Plan(
        service="labelling",
        instance=settings.instance,
        inputs=INPUTS,
        changelog=CHANGELOG,
        gather_s=GATHER_S,
    )
    return run(plan, options, settings, lambda metrics: tasks(settings, options, metrics))


def tasks(settings: LabellingSettings, options: Options, metrics: Metrics) -> MakeTask:
    """Give the maker of tasks.

    Raises:
        CommandError: the topics have different numbers of partitions.
        Retry: one of them is missing, or nobody answers.
    """
    topics = (*INPUTS, LABELLED, CHANGELOG)
    check_partitions(Counter(topic for topic, _ in admin.partitions_of(options, list(topics))))
    rule = Rule(lag=round(settings.label_lag_h * HOUR))
    labeller = Labeller(codec=Codec(settings.schemas), rule=rule, joined=counting(metrics))
    return lambda partition: Labelling(partition, labeller)


def check_partitions(partitions: Mapping[str, int]) -> None:
    """See that everything of a stay meets in one partition number.

    Args:
        partitions: by topic how many it has.

    Raises:
        CommandError: not all have as many.
    """
    if len(set(partitions.values())) > 1:
        raise CommandError(
            f"The topics of labelling do not have one number of partitions: {dict(partitions)}.",
            "Run `vigil topics apply`; it says which topic is in the way.",
            Fault.PARTITIONS,
        )


def counting(metrics: Metrics) -> Joined:
    """Count what became of records, and dead letters by reason."""
    reasons = frozenset(Reason)

    def joined(topic: str, outcome: str) -> None:
        if outcome in reasons:
            metrics.counter("dead_letters_total", reason=outcome).inc()
            outcome = "dead"
        metrics.counter("joined_total", topic=topic, outcome=outcome).inc()

    return joined


if __name__ == "__main__":
    sys.exit(main())
