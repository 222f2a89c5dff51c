"""Where labels and dead letters are written, and under which keys."""

import hashlib
from typing import Final

import msgspec

from services.core.errors import Refusal
from services.core.events import PSEUDONYM_BYTES, DeadLetter, HourBefore, Labelled
from services.labelling.register import Said
from services.labelling.wire import Wire
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record

PREDICTIONS: Final = "predictions.v1"
ALERTS: Final = "alerts.v1"
FEEDBACK: Final = "feedback.v1"
OUTCOMES: Final = "outcomes.v1"
INPUTS: Final = (PREDICTIONS, ALERTS, FEEDBACK, OUTCOMES)
LABELLED: Final = "labelled.v1"
DEAD_LETTERS: Final = "dlq.v1"
CHANGELOG: Final = "labelling-changelog"


def labelled_output(wire: Wire, labelled: Labelled, partition: int) -> Output:
    """Write to the partition number that everything of the patient has."""
    return Output(LABELLED, labelled.pseudonym, wire.labelled(labelled), partition)


def labelled_of(said: Said, watermark: int | None) -> Labelled:
    """Put a statement into the words of the wire.

    Args:
        said: about an hour of a stay.
        watermark: how far event time had come, µs.
    """
    digest, policy_version = said.now.model
    dimensions, labels = said.cohorts
    before = msgspec.structs.asdict(said.before.label) if said.before else None
    return Labelled(
        pseudonym=said.key[PSEUDONYM_BYTES:],
        encounter=said.key[:PSEUDONYM_BYTES],
        hour=said.hour,
        revision=said.revision,
        now=said.now.label,
        before=HourBefore(**before) if before else None,
        cohort_dimensions=list(dimensions),
        cohorts=list(labels),
        definition=said.now.definition,
        model_digest=digest,
        policy_version=policy_version,
        watermark=watermark,
    )


def dead_output(codec: Codec, record: Record, refusal: Refusal) -> Output:
    """Tell of a record that cannot be used; labelling holds no key, so the digest alone stays."""
    value = record.value or b""
    dead = DeadLetter(
        reason=refusal.reason,
        place=refusal.place,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        entry=-1,
        source="",
        received_at=record.timestamp_ms * 1000,
        length=len(value),
        sha256=hashlib.sha256(value).digest(),
        key_epoch=0,
        payload=b"",
    )
    key = f"{dead.topic}/{dead.partition}/{dead.offset}"
    return Output(DEAD_LETTERS, key.encode(), codec.encode(dead))
