"""The families of windows that are watched: which records, counted how, judged by whom."""

from collections.abc import Callable
from typing import Any

import msgspec

from services.core.events import Labelled, PredictionBatch
from services.core.folds.fold import Fold
from services.core.folds.hours import BaselineAt, HourFold
from services.core.folds.labels import LabelFold
from services.core.judge.hours import HourJudge
from services.core.judge.labels import LabelJudge
from services.core.judge.verdict import Judge
from services.core.windows import DAY
from services.monitoring.detectors import adwin
from services.monitoring.outputs import LABELLED, PREDICTIONS


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of windows.

    Attributes:
        topic: whose records are counted.
        event: what they are.
        fold: makes an empty fold for a partition number.
        judge: of the windows.
        length: of each window, µs.
    """

    topic: str
    event: type[msgspec.Struct]
    fold: Callable[[int], Fold[Any]]
    judge: Judge
    length: int

    @property
    def name(self) -> str:
        """As tallies carry it, such as hours/24h."""
        return self.judge.family


def families(baseline_at: BaselineAt, *, length: int = DAY, origin: int = 0) -> list[Family]:
    """Give every family.

    Args:
        baseline_at: gives the baseline in force at a window's start, µs.
        length: of each window, µs, whole hours.
        origin: where some window begins, µs.
    """
    return [
        Family(
            topic=PREDICTIONS,
            event=PredictionBatch,
            fold=lambda partition: HourFold(partition, baseline_at, length=length, origin=origin),
            judge=HourJudge(baseline_at, adwin, length=length),
            length=length,
        ),
        Family(
            topic=LABELLED,
            event=Labelled,
            fold=lambda partition: LabelFold(partition, length=length, origin=origin),
            judge=LabelJudge(length=length),
            length=length,
        ),
    ]
