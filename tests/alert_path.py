"""A small hospital for tests: what gateway, ingest and scoring would have written."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from services.core.cohorts import DIMENSIONS
from services.core.events import (
    Alert,
    Contribution,
    DeadLetter,
    Demographics,
    Disposition,
    Fate,
    Identity,
    Kind,
    Patient,
    PredictionBatch,
    Receipt,
    ReceiptEntry,
    Role,
    Stay,
    Step,
    Vitals,
    packed,
    prediction_id,
)

AT = 1_772_352_000_000_000  # 2026-03-01 08:00 UTC, µs
DIGEST = "ab" * 32
VITALS_ID = "00c7a1f4000040008000000000000000"
FEATURES = 40


def pseudonym(number: int) -> bytes:
    return hashlib.sha256(f"patient {number}".encode()).digest()[:16]


def vitals(raw: tuple[int, int], entries: Sequence[int], *, patient: int = 1) -> Vitals:
    count = len(entries)
    return Vitals(
        kind=Kind.OBSERVATION,
        source="west",
        pseudonym=pseudonym(patient),
        encounter=pseudonym(-patient),
        measured_at=AT,
        received_at=AT + 1,
        accepted_at=AT + 2,
        ingest_id=f"ingest-{raw[0]}-{raw[1]}",
        raw_partition=raw[0],
        raw_offset=raw[1],
        entries=packed(entries, "<u2"),
        variables=bytes(range(count)),
        values=packed(np.linspace(60, 90, count), "<f8"),
        flags=packed([0] * count, "<u2"),
        ids=bytes(range(8)) * count,
        versions=packed([1] * count, "<i8"),
        codes=["8867-4"] * count,
        units=["/min"] * count,
        devices=[""] * count,
    )


def tick(raw: tuple[int, int]) -> Vitals:
    event = vitals(raw, [], patient=0)
    gone = {"kind": Kind.TICK, "pseudonym": b"", "encounter": b"", "entries": packed([0], "<u2")}
    return msgspec.structs.replace(event, **gone)


def receipt(raw: tuple[int, int], fates: Sequence[Fate]) -> Receipt:
    return Receipt(
        ingest_id=f"ingest-{raw[0]}-{raw[1]}",
        source="west",
        raw_partition=raw[0],
        raw_offset=raw[1],
        received_at=AT,
        accepted_at=AT + 2,
        length=100,
        sha256=hashlib.sha256(b"raw").digest(),
        entries=[ReceiptEntry(index=i, fate=fate) for i, fate in enumerate(fates)],
    )


def dead_letter(raw: tuple[int, int], entry: int, *, topic: str = "fhir.raw.v1") -> DeadLetter:
    return DeadLetter(
        reason="UNIT_UNKNOWN",
        place="Observation.valueQuantity.code",
        topic=topic,
        partition=raw[0],
        offset=raw[1],
        entry=entry,
        source="west",
        received_at=AT,
        length=9,
        sha256=hashlib.sha256(b"payload").digest(),
        key_epoch=1,
        payload=b"never to be seen in the ledger",
    )


def predictions(partition: int, offsets: Sequence[int], **changes: Any) -> PredictionBatch:
    """Every third entry is not scored."""
    count = len(offsets)
    scored = [offset % 3 != 2 for offset in offsets]
    rng = np.random.default_rng(count + partition)
    batch = PredictionBatch(
        vitals_topic_id=VITALS_ID,
        partition=partition,
        model_name="sepsis",
        model_version="1.0.0",
        model_digest=DIGEST,
        policy_version="1",
        role=Role.SHOWN,
        watermark=AT,
        entries=count,
        offsets=packed(offsets, "<i8"),
        kinds=bytes(count),
        dispositions=bytes(
            Disposition.SCORED if yes else Disposition.STATE_ONLY for yes in scored
        ),
        causes=bytes(count),
        pseudonyms=b"".join(pseudonym(offset) for offset in offsets),
        encounters=b"".join(pseudonym(-offset) for offset in offsets),
        measured_at=packed([AT] * count, "<i8"),
        received_at=packed([AT + 1] * count, "<i8"),
        accepted_at=packed([AT + 2] * count, "<i8"),
        as_of=packed([AT] * count, "<i8"),
        bitmaps=packed([0b101] * count, "<u8"),
        values=packed(rng.random(2 * count), "<f8"),
        scores=packed([0.25 if yes else np.nan for yes in scored], "<f4"),
        thresholds=packed([0.5 if yes else np.nan for yes in scored], "<f4"),
        decisions=bytes(count),
        cohort_dimensions=list(DIMENSIONS),
        cohort_labels=["unknown", "female", "MICU"],
        cohorts=packed([1, *[0] * (len(DIMENSIONS) - 2), 2] * count, "<u2"),
        feature_count=FEATURES,
        features=packed(rng.random(FEATURES * sum(scored)), "<f4"),
    )
    return msgspec.structs.replace(batch, **changes)


def alert(partition: int, offset: int) -> Alert:
    name = prediction_id(VITALS_ID, partition, offset, digest=DIGEST)
    return Alert(
        alert_id=name,
        step=Step.RAISED,
        prediction_id=name,
        pseudonym=pseudonym(offset),
        encounter=pseudonym(-offset),
        unit="MICU",
        measured_at=AT,
        received_at=AT + 1,
        accepted_at=AT + 2,
        valid_until=AT + 3_600_000_000,
        score=0.75,
        threshold=0.5,
        cause="threshold",
        contributions=[
            Contribution(feature="HR last", value=120.0, contribution=0.5),
            Contribution(feature="Lactate last", value=None, contribution=-0.125),
        ],
        policy_version="1",
        model_digest=DIGEST,
    )


def patient(number: int) -> Patient:
    return Patient(
        pseudonym=pseudonym(number),
        updated_at=AT,
        demographics=Demographics(age=90.0, sex="female"),
        stay=Stay(status="in-progress", unit="MICU", admitted_at=AT),
    )


def identity(number: int) -> Identity:
    return Identity(pseudonym=pseudonym(number), key_epoch=1, ciphertext=b"never to be seen here")
