"""How good a set of columns is: cross-validation by patient, thresholds by nested folds."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.core.errors import CommandError
from services.core.faults import Fault
from services.core.features import FEATURES, HISTORY_HOURS
from services.core.stats.calibration import Line, fit_line, sigmoid
from services.core.stats.utility import before_onset, best_threshold, hour_utilities
from services.training.booster import TREES, Lessons, fit, lessons, margins
from services.training.folds import FOLDS, THINNING, folds_of, septic, thinned
from services.training.source import TIME_COLUMNS, Say, Stays

_SIDE_BY_SIDE: Final = 2  # models trained at the same time

Float64 = NDArray[np.float64]
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a model may look at."""

    name: str
    features: NDArray[np.intp]  # places in FEATURES
    time: bool = False  # whether it also sees the TIME_COLUMNS
    cap_ages: bool = False  # whether ages of values end at HISTORY_HOURS

    @property
    def names(self) -> list[str]:
        """The names of its inputs, in order."""
        known = [FEATURES[place].name for place in self.features]
        return known + list(TIME_COLUMNS if self.time else ())


_ALL: Final = np.arange(len(FEATURES))
_COUNTS: Final = np.array([feature.kind == "count" for feature in FEATURES])
_AGES: Final = np.array([feature.kind == "age" for feature in FEATURES])

SHIPPED: Final = Columns(name="shipped", features=_ALL)
STUDY: Final = (
    Columns(name="full", features=_ALL, time=True),
    SHIPPED,
    Columns(name="strict", features=_ALL[~_COUNTS], cap_ages=True),
    Columns(name="time_only", features=_ALL[:0], time=True),
)
"""Everything; what is shipped; no trace of the length of stay; nothing but time and place."""


class Course(NamedTuple):
    """Recorded stays with all that training needs of them, row by row."""

    stays: Stays
    features: NDArray[np.float32]
    fold: NDArray[np.int64]  # (R,)
    worth: Float64  # (R, 2) utility of silence and of alert
    counted: NDArray[np.bool_]  # (R,) hours before onset
    taught: NDArray[np.bool_]  # (R,) hours to learn from


def course(stays: Stays, features: NDArray[np.float32]) -> Course:
    """Prepare stays and their features, (R, len(FEATURES)), for training."""
    worth = hour_utilities(stays.label, stays.starts)
    return Course(
        stays=stays,
        features=features,
        fold=folds_of(stays.ids)[stays.patient],
        worth=worth,
        counted=before_onset(stays.label, stays.starts),
        taught=thinned(stays) & (worth[:, 0] != worth[:, 1]),
    )


class Judged(NamedTuple):
    """Every hour judged by models that never saw its patient.

    Attributes:
        margin: (R,) raw, from the model trained on the other four folds.
        score: (R,) calibrated by the other four folds.
        alert: (R,) by the threshold that was best for the other four folds.
        line: the calibration of the model trained on everything, from all margins.
        threshold: its best threshold, a probability.
    """

    margin: Float64
    score: Float64
    alert: NDArray[np.bool_]
    line: Line
    threshold: float


def judge(given: Course, columns: Columns, *, say: Say, trees: int = TREES) -> Judged:
    """Cross-validate one set of columns.

    For each fold, calibration and threshold come from margins of its four other folds, each by a
    model trained without both: 10 models for the pairs beside the 5 that score the folds.
    """
    inner = np.full((FOLDS, len(given.fold)), np.nan)
    margin = np.full(len(given.fold), np.nan)

    def without(leave: tuple[int, ...]) -> None:
        model = learn(given, columns, leave=leave, trees=trees)
        for fold in leave:
            rows = np.flatnonzero(given.fold == fold)
            others = [other for other in leave if other != fold]
            into = inner[others[0]] if others else margin
            into[rows] = margins(model, inputs(given, columns, rows))
        say(f"{columns.name}: trained without fold {' and '.join(str(f + 1) for f in leave)}")

    left_out = [*combinations(range(FOLDS), 2), *((fold,) for fold in range(FOLDS))]
    side_by_side(without, left_out)
    return _judged(given, margin, inner)


def side_by_side(work: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Do the work of each item in order, some at the same time."""
    # LightGBM works outside Python's lock, and every training is one thread of its own.
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return list(pool.map(work, items))


def learn(given: Course, columns: Columns, *, leave: tuple[int, ...] = (), trees: int) -> str:
    """Train on all folds but those to leave out; the canonical model text."""
    rows = np.flatnonzero(given.taught & ~np.isin(given.fold, leave))
    target, weight = lessons(given.worth[rows])
    sick = septic(given.stays)[given.stays.patient[rows]]
    task = Lessons(target, np.where(sick, weight, weight * THINNING))
    return fit(inputs(given, columns, rows), task, names=columns.names, trees=trees)


def _judged(given: Course, margin: Float64, inner: Float64) -> Judged:
    score = np.empty_like(margin)
    alert = np.empty(len(margin), np.bool_)
    for fold in range(FOLDS):
        own = given.fold == fold
        line, threshold = settle(given, inner[fold], ~own)
        score[own] = sigmoid(line.intercept + line.slope * margin[own])
        alert[own] = margin[own] >= threshold
    line, threshold = settle(given, margin, np.ones_like(alert))
    served = sigmoid(np.array(line.intercept + line.slope * threshold))
    return Judged(margin, score, alert, line, round(float(served), 6))


def settle(given: Course, margin: Float64, rows: NDArray[np.bool_]) -> tuple[Line, float]:
    """Calibration over the hours before onset, and the best threshold on the margin."""
    counted = rows & given.counted
    try:
        line = fit_line(margin[counted], given.stays.label[counted])
    except ValueError as error:
        raise CommandError(
            "The septic stays are too few, or too easily told apart, to calibrate a model.",
            "Train on more patients.",
            Fault.TOO_FEW_STAYS,
        ) from error
    return line, best_threshold(margin[rows], given.worth[rows])


def inputs(given: Course, columns: Columns, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """What a model with these columns sees of some rows."""
    features = given.features[rows][:, columns.features]
    if columns.cap_ages:
        old = _AGES[columns.features]
        features[:, old] = np.minimum(features[:, old], HISTORY_HOURS)
    if columns.time:
        features = np.concatenate([features, given.stays.context[rows]], axis=1)
    return features
