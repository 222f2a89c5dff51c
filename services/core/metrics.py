"""Names and meaning of every Prometheus metric; `runtime.telemetry` builds them from this table.

Each name is published with the prefix `vigil_`. Units are base units and the name's suffix. Labels
come from LABELS alone: never a patient, an encounter or anything else that grows with patients.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

PREFIX: Final = "vigil_"
"""What every published name begins with."""

Label = Literal[
    "service",
    "topic",
    "partition",
    "unit",
    "model",
    "version",
    "feature",
    "cohort",
    "reason",
    "outcome",
]
LABELS: Final[tuple[Label, ...]] = Label.__args__  # type: ignore[attr-defined]  # a Literal has it
"""Every label that a metric may have."""

CounterName = Literal[
    "records_total",
    "transactions_total",
    "dead_letters_total",
    "entries_total",
    "skewed_entries_total",
    "predictions_total",
    "alerts_total",
    "alerts_held_total",
    "joined_total",
    "ledger_rows_total",
    "requests_total",
    "security_events_total",
    "mllp_messages_total",
    "notifications_total",
    "request_body_bytes_total",
    "ticks_total",
    "tallies_total",
    "windows_total",
    "measurements_total",
    "signals_total",
    "baselines_total",
    "model_changes_total",
]
GaugeName = Literal[
    "lag_records",
    "watermark_timestamp_seconds",
    "restored_rows",
    "unconfirmed_records",
    "outbox_records",
    "outbox_bytes",
    "subscription_gaps",
    "silent_subscriptions",
    "refused_recent_records",
    "refused_running_records",
    "ready",
    "open_signals",
    "ledger_verified_timestamp_seconds",
    "ledger_findings",
    "model_info",
]
HistogramName = Literal[
    "transaction_seconds",
    "batch_records",
    "request_seconds",
    "accepted_to_scored_seconds",
    "accepted_to_alert_seconds",
]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric means, which labels it has and, for a histogram, where its buckets end."""

    meaning: str
    labels: tuple[Label, ...]
    buckets: tuple[float, ...] = ()


SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds for durations, s."""
RECORDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Upper bounds for numbers of records."""

COUNTERS: Final[Mapping[CounterName, Metric]] = {
    "records_total": Metric(
        meaning="Records handled and committed.",
        labels=("service", "topic"),
    ),
    "transactions_total": Metric(
        meaning="Kafka transactions, or flushes of monitoring, by outcome: committed or failed.",
        labels=("service", "outcome"),
    ),
    "dead_letters_total": Metric(
        meaning="Messages, or entries of one, that could not be used, by reason code.",
        labels=("service", "reason"),
    ),
    "entries_total": Metric(
        meaning="Entries of raw records by fate: vitals, dead, out_of_scope, duplicate, tick.",
        labels=("service", "outcome"),
    ),
    "skewed_entries_total": Metric(
        meaning="Entries that were read whose clock seems wrong: issued before measured, or a "
        "vital sign an hour late.",
        labels=("service",),
    ),
    "predictions_total": Metric(
        meaning="Entries of predictions by disposition (shadow_… of a shadow's), and by cause.",
        labels=("model", "version", "outcome", "reason"),
    ),
    "alerts_total": Metric(
        meaning="Steps of alerts by unit: raised, escalated, cleared, withdrawn.",
        labels=("unit", "outcome"),
    ),
    "alerts_held_total": Metric(
        meaning="Scores held at the threshold: persistence, refractory, transfer or expired.",
        labels=("unit", "outcome"),
    ),
    "joined_total": Metric(
        meaning="What labelling took in, by topic: taken, held, repeated, conflict, too_late, ….",
        labels=("service", "topic", "outcome"),
    ),
    "ledger_rows_total": Metric(
        meaning="Rows that the ledger's store confirmed, by topic of origin.",
        labels=("service", "topic"),
    ),
    "requests_total": Metric(
        meaning="HTTP requests answered, by status code.",
        labels=("service", "outcome"),
    ),
    "security_events_total": Metric(
        meaning="Messages refused for who sent them: unknown, wrong, expired, replayed, ….",
        labels=("service", "reason"),
    ),
    "mllp_messages_total": Metric(
        meaning="Messages of HL7 v2 answered AA, AE or AR, by reason; or connections closed.",
        labels=("service", "outcome", "reason"),
    ),
    "notifications_total": Metric(
        meaning="Notifications of FHIR Subscriptions by kind; repeated, asked for, not answered.",
        labels=("service", "outcome"),
    ),
    "request_body_bytes_total": Metric(
        meaning="Bytes of request bodies that were accepted.",
        labels=("service",),
    ),
    "ticks_total": Metric(
        meaning="Ticks sent on behalf of sources whose clock is the gateway's.",
        labels=("service", "outcome"),
    ),
    "tallies_total": Metric(
        meaning="Tallies of windows published, restated ones too.",
        labels=("service",),
    ),
    "windows_total": Metric(
        meaning="Windows stated, restated ones too.",
        labels=("service",),
    ),
    "measurements_total": Metric(
        meaning="Measurements published by state, restated ones too; the reason is the metric.",
        labels=("service", "outcome", "reason"),
    ),
    "signals_total": Metric(
        meaning="Steps of signals published: opened, changed, closed; the reason is the metric.",
        labels=("service", "outcome", "reason"),
    ),
    "baselines_total": Metric(
        meaning="Baselines that a change put into use: taken, or refused as unusable.",
        labels=("service", "outcome"),
    ),
    "model_changes_total": Metric(
        meaning="Changes of models and policies: taken, refused (reason) or failed; the old stay.",
        labels=("service", "outcome", "reason"),
    ),
}
"""What only grows while a process lives."""

GAUGES: Final[Mapping[GaugeName, Metric]] = {
    "lag_records": Metric(
        meaning="Offsets between the position and the end of a partition; 0 or 1 at rest.",
        labels=("topic", "partition"),
    ),
    "watermark_timestamp_seconds": Metric(
        meaning="Event-world time before which no event is expected any more.",
        labels=("topic", "partition"),
    ),
    "restored_rows": Metric(
        meaning="Rows of the changelog read when partitions were last gained.",
        labels=("service",),
    ),
    "unconfirmed_records": Metric(
        meaning="Records sent to Kafka that no broker has confirmed yet.",
        labels=("service",),
    ),
    "outbox_records": Metric(
        meaning="Accepted records that wait on disk until Kafka answers.",
        labels=("service",),
    ),
    "outbox_bytes": Metric(
        meaning="Size on disk of the records that wait until Kafka answers.",
        labels=("service",),
    ),
    "refused_recent_records": Metric(
        meaning="Messages among the latest 1,000 of a source of which anything was refused; of "
        "the worst source.",
        labels=("service",),
    ),
    "refused_running_records": Metric(
        meaning="Messages refused one after the other, of the worst source.",
        labels=("service",),
    ),
    "subscription_gaps": Metric(
        meaning="FHIR Subscriptions of which an event is missing.",
        labels=("service",),
    ),
    "silent_subscriptions": Metric(
        meaning="FHIR Subscriptions that were idle for more than two heartbeats.",
        labels=("service",),
    ),
    "ready": Metric(
        meaning="1 while the service makes progress, else 0.",
        labels=("service",),
    ),
    "open_signals": Metric(
        meaning="Signals that stand open by severity; the reason is the metric they came of.",
        labels=("service", "reason", "feature", "cohort", "outcome"),
    ),
    "model_info": Metric(
        meaning="1 for each model at work; the outcome is its part: champion, canary, shadow.",
        labels=("model", "version", "outcome"),
    ),
    "ledger_verified_timestamp_seconds": Metric(
        meaning="When the last verification of the ledger without a finding ended; 0 never.",
        labels=("service",),
    ),
    "ledger_findings": Metric(
        meaning="Findings of the last verification of the ledger.",
        labels=("service",),
    ),
}
"""What goes up and down."""

HISTOGRAMS: Final[Mapping[HistogramName, Metric]] = {
    "transaction_seconds": Metric(
        meaning="Time from the first record of a batch to its committed transaction or flush.",
        labels=("service",),
        buckets=SECONDS,
    ),
    "batch_records": Metric(
        meaning="Records per transaction.",
        labels=("service",),
        buckets=RECORDS,
    ),
    "request_seconds": Metric(
        meaning="Time from a complete HTTP request to its answer.",
        labels=("service",),
        buckets=SECONDS,
    ),
    "accepted_to_scored_seconds": Metric(
        meaning="Real time from the gateway's acceptance to the committed score.",
        labels=("model", "version"),
        buckets=SECONDS,
    ),
    "accepted_to_alert_seconds": Metric(
        meaning="Real time from the gateway's acceptance to the alert that it raised.",
        labels=("model", "version"),
        buckets=SECONDS,
    ),
}
"""What has a distribution."""
