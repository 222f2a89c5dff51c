"""What a model loses where patients are charted otherwise, or are others."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.errors import CommandError
from services.core.faults import Fault
from services.training.booster import SEED, margins
from services.training.folds import FOLDS, folds_of
from services.training.matrix import matrix
from services.training.meeting import Judgement, Meeting, measured
from services.training.perturb import CHANGES
from services.training.source import TIME_COLUMNS, Say, Stays
from services.training.study import (
    STUDY,
    Columns,
    Course,
    Float64,
    course,
    inputs,
    learn,
    settle,
    side_by_side,
)

SCHEMA: Final = "vigil.robustness/1"
SETS: Final = tuple(columns for columns in STUDY if columns.name != "time_only")
_UNITS: Final = ("Unit1", "Unit2")


class Home(NamedTuple):
    """A set of columns where it was made: the patients, a model without each fold, all scores."""

    given: Course
    models: list[str]
    judged: Judgement


def robustness(given: Course, *, say: Say, sets: Sequence[Columns] = SETS) -> dict[str, Any]:
    """Measure each set of columns under every change of CHANGES, and from unit to unit.

    Models, calibration and threshold stay as they were made, cross-validated by patient. Takes
    ten to twenty minutes.

    Args:
        given: stays and their features.
        say: told of progress.
        sets: of columns.
    """
    units = {unit: _within(given, unit) for unit in _UNITS}
    homes = [_home(given, columns, say=say) for columns in sets]
    found: dict[str, Any] = {columns.name: {} for columns in sets}
    for what, change in CHANGES.items():
        say(f"measuring: {what}")
        stays, kept = change(given.stays, np.random.default_rng(SEED))
        features = matrix(stays)
        for columns, home in zip(sets, homes, strict=True):
            own = home.judged._replace(margin=home.judged.margin[kept])
            other = own._replace(margin=_margins(home.models, columns, stays, features))
            found[columns.name][what] = measured(Meeting(stays, own, other))
    for columns in sets:
        found[columns.name] |= _between_units(units, columns, say=say)
    return {"schema": SCHEMA, "data": {"sha256": given.stays.digest}, "sets": found}


def _home(given: Course, columns: Columns, *, say: Say) -> Home:
    def without(fold: int) -> str:
        say(f"{columns.name}: training without fold {fold + 1}")
        return learn(given, columns, leave=(fold,))

    models = side_by_side(without, range(FOLDS))
    margin = _margins(models, columns, given.stays, given.features)
    settled = settle(given, margin, np.ones(len(margin), np.bool_))
    return Home(given, models, Judgement(margin, *settled))


def _margins(
    models: list[str], columns: Columns, stays: Stays, features: NDArray[np.float32]
) -> Float64:
    """Margins of every row by the model that did not see its patient."""
    folds = folds_of(stays.ids)[stays.patient]
    margin = np.empty(len(folds))

    def score(fold: int) -> None:
        rows = folds == fold
        margin[rows] = margins(models[fold], inputs(columns, features[rows], stays.context[rows]))

    side_by_side(score, range(FOLDS))
    return margin


def _between_units(units: dict[str, Course], columns: Columns, *, say: Say) -> dict[str, Any]:
    """Each unit type's patients by a model of the other's; at home is a model of their own."""
    homes = {unit: _home(given, columns, say=say) for unit, given in units.items()}
    found = {}
    for made, met in (_UNITS, _UNITS[::-1]):
        say(f"{columns.name}: {made} meets {met}")
        model = learn(homes[made].given, columns)
        there = homes[met].given
        margin = margins(model, inputs(columns, there.features, there.stays.context))
        other = homes[made].judged._replace(margin=margin)
        meeting = Meeting(there.stays, homes[met].judged, other)
        found[f"made in {made}, met {met}"] = measured(meeting)
    return found


def _within(given: Course, unit: str) -> Course:
    """The patients of one type of unit; those of unknown type are in none."""
    of_unit = given.stays.context[:, TIME_COLUMNS.index(unit)] == 1
    members = of_unit[given.stays.starts[:-1]]
    if not np.any(given.stays.label[rows := members[given.stays.patient]]):
        raise CommandError(
            f"No patient of {unit} has an onset, so nothing can be made there.",
            "Use data that tell the type of unit by 1 in Unit1 or Unit2.",
            Fault.TOO_FEW_STAYS,
        )
    return course(given.stays.only(members), given.features[rows])
