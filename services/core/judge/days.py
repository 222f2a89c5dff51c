"""The judge of patient-days: whether alerts have become commoner or rarer from some day on."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.baseline import EVERYBODY
from services.core.events import Measurement, State
from services.core.judge.cells import hidden
from services.core.stats.drift import SMALLEST_K
from services.core.tallies import PatientDays
from services.core.windows import Window

METRIC: Final = "alerted_patient_days"
UNIT: Final = "patient_day"

Day = NDArray[np.bool_]
"""Alerted or not, one patient after the other."""


class Detection(NamedTuple):
    """What an online detector says after the last of its days.

    Attributes:
        mean: of the span that it holds for stable.
        before: its mean when the last day began.
        span: how many patient-days that is.
        changed: it found a change on the last day.
    """

    mean: float
    before: float
    span: int
    changed: bool


Detect = Callable[[Sequence[Day]], Detection]
"""Runs a detector over days, oldest first; a pure function of them."""


def day_of(parts: Sequence[PatientDays]) -> Day:
    """Put the bits of the partitions one after the other."""
    bits = [
        np.unpackbits(np.frombuffer(part.alerted, np.uint8), count=part.patients).astype(bool)
        for part in parts
    ]
    return np.concatenate(bits) if bits else np.zeros(0, bool)


def patient_days(days: Sequence[Day], window: Window, detect: Detect) -> Measurement:
    """Judge the last of some days.

    A change found on that day is watch and no alarm: a detector has no p-value, only a run length.

    Args:
        days: up to thirty, oldest first, the last is the window's.
        window: to be judged.
        detect: the detector.
    """
    today = days[-1]
    patients = len(today)
    found = detect(days) if patients else Detection(0.0, 0.0, 0, changed=False)
    veiled = not patients or bool(hidden({EVERYBODY: patients}))
    enough = patients >= SMALLEST_K
    judged = State.WATCH if found.changed else State.OK
    moved = found.mean - found.before if found.changed else 0.0
    return Measurement(
        metric=METRIC,
        cohort=EVERYBODY,
        unit_of_analysis=UNIT,
        start=window.start,
        end=window.end,
        revision=0,
        value=None if veiled else found.mean,
        numerator=None if veiled else int(today.sum()),
        denominator=None if veiled else patients,
        patients=None if veiled and patients else patients,
        direction="higher" if moved > 0 else "lower" if moved < 0 else "",
        state=judged if enough else State.INSUFFICIENT,
        why="" if enough else "suppressed" if veiled and patients else "few_patients",
    )
