"""Small builders of prediction batches, without a model behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.core.cohorts import DIMENSIONS, UNKNOWN
from services.core.events import (
    Cause,
    Decision,
    Disposition,
    Kind,
    PredictionBatch,
    Role,
    packed,
)
from services.core.vitals import VARIABLE_INDEX

HOUR = 3_600_000_000
DAY = 24 * HOUR
MINUTE = 60_000_000


def person(number: int) -> bytes:
    """A pseudonym."""
    return number.to_bytes(16, "big")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One entry of a batch; an observation that was scored, unless told otherwise."""

    who: int
    at: int
    values: dict[str, float] = field(default_factory=dict)
    score: float = 0.1
    threshold: float = 0.5
    kind: Kind = Kind.OBSERVATION
    disposition: Disposition = Disposition.SCORED
    cause: Cause = Cause.NONE
    decision: Decision = Decision.NONE
    cohorts: dict[str, str] = field(default_factory=dict)

    def measured(self) -> list[tuple[int, float]]:
        """Number and value of each variable, in the order of the wire."""
        return sorted((VARIABLE_INDEX[name], value) for name, value in self.values.items())


def batch(
    entries: Sequence[Scored],
    *,
    watermark: int | None,
    partition: int = 0,
    role: Role = Role.SHOWN,
    instead: Mapping[str, object] | None = None,
) -> PredictionBatch:
    """A batch as scoring writes it; `instead` puts something else in place of its fields."""
    labels: dict[str, int] = {}
    named = [e.cohorts.get(d, UNKNOWN) for e in entries for d in DIMENSIONS]
    codes = [labels.setdefault(label, len(labels)) for label in named]
    nan = float("nan")
    scored = [
        (e.score, e.threshold) if e.disposition is Disposition.SCORED else (nan, nan)
        for e in entries
    ]
    many = len(entries)
    made: dict[str, object] = {
        "entries": many,
        "offsets": packed(range(many), "<i8"),
        "kinds": bytes(tuple(Kind).index(e.kind) for e in entries),
        "dispositions": bytes(e.disposition for e in entries),
        "causes": bytes(e.cause for e in entries),
        "pseudonyms": b"".join(
            bytes(16) if e.kind is Kind.TICK else person(e.who) for e in entries
        ),
        "encounters": b"".join(person(e.who) for e in entries),
        "measured_at": packed([e.at for e in entries], "<i8"),
        "received_at": packed([e.at for e in entries], "<i8"),
        "accepted_at": packed([e.at for e in entries], "<i8"),
        "as_of": packed([e.at for e in entries], "<i8"),
        "bitmaps": packed([sum(1 << v for v, _ in e.measured()) for e in entries], "<u8"),
        "values": packed([value for e in entries for _, value in e.measured()], "<f8"),
        "scores": packed([score for score, _ in scored], "<f4"),
        "thresholds": packed([threshold for _, threshold in scored], "<f4"),
        "decisions": bytes(e.decision for e in entries),
        "cohort_labels": list(labels),
        "cohorts": packed(codes, "<u2"),
        "features": b"",
    }
    made.update(instead or {})
    return PredictionBatch(
        vitals_topic_id="00c7a1f4000040008000000000000000",
        partition=partition,
        model_name="m",
        model_version="1",
        model_digest="ab" * 32,
        policy_version="p1",
        role=role,
        watermark=watermark,
        cohort_dimensions=list(DIMENSIONS),
        feature_count=0,
        **made,  # type: ignore[arg-type]  # the columns have the types of the schema
    )
