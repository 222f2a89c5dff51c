"""Online detectors on the stream of patient-days; river's, imported when first asked for."""

from collections.abc import Sequence
from typing import Final

from services.core.judge.days import Day, Detection

DELTA: Final = 0.002
"""ADWIN's bound on a false alarm at one cut (Bifet and Gavalda, SDM 2007:443-448)."""


def adwin(days: Sequence[Day]) -> Detection:
    """Run ADWIN over days, oldest first; the same days give the same answer.

    Args:
        days: alerted or not, one patient after the other.
    """
    from river.drift import ADWIN  # noqa: PLC0415 - it takes a second, and pandas and scipy with it

    detector = ADWIN(delta=DELTA)  # type: ignore[no-untyped-call]  # river has no types here
    before, changed = 0.0, False
    for day in days:
        before, changed = float(detector.estimation), False
        for alerted in day.tolist():
            detector.update(alerted)  # type: ignore[no-untyped-call]  # nor here
            changed = changed or detector.drift_detected
    return Detection(float(detector.estimation), before, int(detector.width), changed)
