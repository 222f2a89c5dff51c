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
from services.core.stats.utility import (
    EARLY_H,
    before_onset,
    best_threshold,
    hour_utilities,
    hours_from_onset,
)
from services.training.booster import SEED, Lessons, Recipe, fit, lessons, margins
from services.training.charting import charted_otherwise
from services.training.folds import FOLDS, THINNING, folds_of, septic, thinned
from services.training.matrix import matrix
from services.training.signs import sign
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
    recipe: Recipe  # by which it learns
    other_hands: bool = False  # whether it learns from stays as charted by other hands
    signed: bool = False  # whether it may learn nothing that contradicts `signs`
    early_h: float = 0.0  # so long before alerts count as early, they are taught as small gains

    @property
    def names(self) -> list[str]:
        """The names of its inputs, in order."""
        known = [FEATURES[place].name for place in self.features]
        return known + list(TIME_COLUMNS if self.time else ())

    @property
    def signs(self) -> list[int] | None:
        """By which sign each input must be learned; None if any may be."""
        if not self.signed:
            return None
        known = [sign(FEATURES[place]) for place in self.features]
        return known + [0 for _ in (TIME_COLUMNS if self.time else ())]


_ALL: Final = np.arange(len(FEATURES))
_COUNTS: Final = np.array([feature.kind == "count" for feature in FEATURES])
_AGES: Final = np.array([feature.kind == "age" for feature in FEATURES])

_LEAVES: Final = {
    "num_leaves": 15,
    "min_data_in_leaf": 500,
    "lambda_l2": 30.0,
    "feature_fraction": 0.2,
}
_SERVED: Final = Recipe(250, {**_LEAVES, "learning_rate": 0.07})
"""Few trees: every event waits for them."""
_MEASURED: Final = Recipe(400, _LEAVES)

SHIPPED: Final = Columns(name="shipped", features=_ALL, recipe=_SERVED, other_hands=True)
STUDY: Final = (
    Columns(name="full", features=_ALL, time=True, recipe=_MEASURED),
    SHIPPED,
    Columns(
        name="strict",
        features=_ALL[~_COUNTS],
        cap_ages=True,
        recipe=_MEASURED,
        signed=True,
        early_h=36.0,
    ),
    Columns(name="time_only", features=_ALL[:0], time=True, recipe=Recipe(250)),
)
"""Everything; what is shipped; no trace of the length of stay; nothing but time and place."""


class Course(NamedTuple):
    """Recorded stays with all that training needs of them, row by row."""

    stays: Stays
    features: NDArray[np.float32]
    fold: NDArray[np.int64]  # (R,)
    worth: Float64  # (R, 2) utility of silence and of alert
    counted: NDArray[np.bool_]  # (R,) hours before onset
    taught: NDArray[np.intp]  # (T,) rows of hours to learn from
    by_other_hands: NDArray[np.float32]  # (T, len(FEATURES)) their features, charted otherwise


def course(stays: Stays, features: NDArray[np.float32]) -> Course:
    """Prepare stays and their features, (R, len(FEATURES)), for training."""
    random = np.random.default_rng(SEED)
    worth = hour_utilities(stays.label, stays.starts)
    taught = np.flatnonzero(thinned(stays) & (worth[:, 0] != worth[:, 1]))
    return Course(
        stays=stays,
        features=features,
        fold=folds_of(stays.ids)[stays.patient],
        worth=worth,
        counted=before_onset(stays.label, stays.starts),
        taught=taught,
        by_other_hands=matrix(charted_otherwise(stays, random))[taught],
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


def judge(given: Course, columns: Columns, *, say: Say) -> Judged:
    """Cross-validate one set of columns.

    For each fold, calibration and threshold come from margins of its four other folds, each by a
    model trained without both: 10 models for the pairs beside the 5 that score the folds.
    """
    inner = np.full((FOLDS, len(given.fold)), np.nan)
    margin = np.full(len(given.fold), np.nan)

    def without(leave: tuple[int, ...]) -> None:
        model = learn(given, columns, leave=leave)
        for fold in leave:
            rows = np.flatnonzero(given.fold == fold)
            others = [other for other in leave if other != fold]
            into = inner[others[0]] if others else margin
            into[rows] = margins(
                model, inputs(columns, given.features[rows], given.stays.context[rows])
            )
        say(f"{columns.name}: trained without fold {' and '.join(str(f + 1) for f in leave)}")

    left_out = [*combinations(range(FOLDS), 2), *((fold,) for fold in range(FOLDS))]
    side_by_side(without, left_out)
    return _judged(given, margin, inner)


def side_by_side(work: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Do the work of each item in order, some at the same time."""
    # LightGBM works outside Python's lock, and every training is one thread of its own.
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return list(pool.map(work, items))


def learn(given: Course, columns: Columns, *, leave: tuple[int, ...] = ()) -> str:
    """Train on all folds but those to leave out; the canonical model text."""
    kept = ~np.isin(given.fold[given.taught], leave)
    rows = given.taught[kept]
    task = to_learn(given, columns, rows)
    lesson = given.by_other_hands[kept] if columns.other_hands else given.features[rows]
    seen = inputs(columns, lesson, given.stays.context[rows])
    return fit(seen, task, names=columns.names, recipe=columns.recipe, signs=columns.signs)


def to_learn(given: Course, columns: Columns, rows: NDArray[np.intp]) -> Lessons:
    """What these columns are taught of some rows.

    Alerts cost before EARLY_H, but the sick are already sick then: columns that cannot tell by the
    clock how far off the onset is learn more of sepsis if those hours count for it, if little.
    """
    ahead_h = hours_from_onset(given.stays.label, given.stays.starts)[rows] - EARLY_H
    target, weight = lessons(given.worth[rows], (ahead_h < 0) & (ahead_h >= -columns.early_h))
    sick = septic(given.stays)[given.stays.patient[rows]]
    return Lessons(target, np.where(sick, weight, weight * THINNING))


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


def inputs(
    columns: Columns, features: NDArray[np.float32], context: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What a model with these columns sees of rows: of all features, and of the TIME_COLUMNS."""
    features = features[:, columns.features]
    if columns.cap_ages:
        old = _AGES[columns.features]
        features[:, old] = np.minimum(features[:, old], HISTORY_HOURS)
    if columns.time:
        features = np.concatenate([features, context], axis=1)
    return features
