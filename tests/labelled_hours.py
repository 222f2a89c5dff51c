"""Labelled hours for tests: one of anybody, a chain of revisions, a ward of stays with onsets."""

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np

from services.core.events import HourBefore, HourLabel, Labelled
from services.core.windows import DAY, HOUR

BEGIN = 20_000 * DAY
DIMENSIONS = ["sex", "age_band", "race", "ethnicity", "payer", "language", "unit"]
COHORTS = ["female", "65-79", "asian", "unknown", "unknown", "en", "MICU"]

_PLAIN = HourLabel(
    score=0.25,
    threshold=0.5,
    above=False,
    raised=False,
    first_alert=False,
    label=0,
    final=True,
    onset=False,
    lead_s=None,
    recognition_lead_s=None,
    treatment_lead_s=None,
    shown=False,
    answered_at=None,
    verdict="",
    reason="",
    acted_at=None,
    authority="",
)


def hour_label(**changed: object) -> HourLabel:
    """A quiet hour with a final label, but for what is named."""
    return msgspec.structs.replace(_PLAIN, **changed)


def who(name: object) -> bytes:
    """A pseudonym."""
    return hashlib.sha256(str(name).encode()).digest()[:16]


def labelled(
    now: HourLabel | None,
    *,
    patient: object = 0,
    encounter: object = 0,
    hour: int = BEGIN,
    **changed: object,
) -> Labelled:
    """One revision of one hour of one encounter."""
    plain = Labelled(
        pseudonym=who(("patient", patient)),
        encounter=who(("encounter", patient, encounter)),
        hour=hour,
        revision=0,
        now=now,
        cohort_dimensions=DIMENSIONS,
        cohorts=COHORTS,
        watermark=BEGIN,
    )
    return msgspec.structs.replace(plain, **changed)


def progress(watermark: int) -> Labelled:
    """How far event time has come."""
    return Labelled(hour=watermark - watermark % HOUR, revision=0, watermark=watermark)


def chain(
    revisions: Sequence[HourLabel | None],
    *,
    patient: object = 0,
    encounter: object = 0,
    hour: int = BEGIN,
) -> list[Labelled]:
    """An hour's revisions, each with the one before it."""
    before: list[HourLabel | None] = [None, *revisions]
    return [
        labelled(
            now,
            patient=patient,
            encounter=encounter,
            hour=hour,
            revision=number,
            before=msgspec.convert(msgspec.to_builtins(old), HourBefore) if old else None,
        )
        for number, (old, now) in enumerate(zip(before, revisions, strict=False))
    ]


def ward(seed: int, patients: int, hours: int = 24) -> list[Labelled]:
    """Stays of one window with scores, onsets and alerts, all final, in no order that matters."""
    random = np.random.default_rng(seed)
    found: list[Labelled] = []
    for patient in range(patients):
        onset = int(random.integers(3, hours)) if random.random() < 0.35 else None
        alert = int(random.integers(0, hours)) if random.random() < 0.6 else None
        if onset is not None and random.random() < 0.7:
            alert = max(0, onset - int(random.integers(1, 13)))
        minutes = int(random.integers(-20, 20))
        lead = None if onset is None or alert is None else (onset - alert) * 3600 + minutes * 60
        cohorts = [
            str(random.choice(labels))
            for labels in (
                ["female", "male"],
                ["18-39", "40-64", "65-79", "80+"],
                ["asian", "black", "white", "unknown"],
                ["unknown"],
                ["unknown"],
                ["unknown"],
            )
        ]
        for hour in range(hours):
            label = 0 if onset is None or hour < onset - 6 else 1 if hour < onset else -1
            score = float(np.float32(random.beta(2, 6) if label < 1 else random.beta(3, 4)))
            unit = "MICU" if hour < 12 or patient % 3 else "SICU"
            now = hour_label(
                score=score,
                above=score >= 0.4,
                raised=hour == alert or score > 0.7,
                first_alert=hour == alert,
                label=label,
                onset=hour == onset,
                lead_s=lead if hour in (onset, alert) else None,
                from_start=onset is not None and onset <= 6,
            )
            at = BEGIN + hour * HOUR
            found.append(labelled(now, patient=patient, hour=at, cohorts=[*cohorts, unit]))
    return found
