"""The same patients judged twice: by a model at home, and by one that comes from elsewhere."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.stats.budget import threshold_within
from services.core.stats.calibration import Line, expected_calibration_error, fit_line, sigmoid
from services.core.stats.intervals import percentile, poisson_weights
from services.core.stats.performance import Ranked
from services.core.stats.utility import before_onset, normalized, stay_utilities
from services.training.folds import FOLDS, folds_of
from services.training.source import Stays

Float64 = NDArray[np.float64]


class Judgement(NamedTuple):
    """What one model says of R rows: raw margins, and the calibration and threshold it brings."""

    margin: Float64
    line: Line
    threshold: float

    @property
    def alert(self) -> NDArray[np.bool_]:
        """(R,) the hours at or above the threshold."""
        return self.margin >= self.threshold


class Meeting(NamedTuple):
    """R rows, what a model of their own says of them, and what the one that meets them says.

    Attributes:
        stays: the rows.
        home: of patients that it did not see, as they are charted at home.
        met: of the same rows by the other model, or as they are charted elsewhere.
    """

    stays: Stays
    home: Judgement
    met: Judgement


def measured(meeting: Meeting) -> dict[str, Any]:
    """Utility, AUROC, share of hours alerted and calibration, at home and as met.

    `lost` has its interval by patient. `budget` is the utility of `met` with a threshold from its
    scores alone, without a label: in each fifth of the patients from the scores of the next
    fifth, for as many alerts as the judgement at home gives these patients.
    """
    stays, home, met = meeting.stays, meeting.home, meeting.met
    alerts = {"home": home.alert, "met": met.alert, "budget": _in_budget(meeting)}
    worth = {
        name: stay_utilities(alert, stays.label, stays.starts) for name, alert in alerts.items()
    }
    weights = poisson_weights([name.encode() for name in stays.ids]).T.astype(np.float64)
    samples = normalized(weights @ worth["home"]) - normalized(weights @ worth["met"])
    utility = {name: float(normalized(each.sum(axis=0))) for name, each in worth.items()}
    lost = {"lost": utility["home"] - utility["met"], "interval": list(percentile(samples))}
    plain = {"home": _plain(stays, home), "met": _plain(stays, met)}
    return {
        "patients": len(stays.ids),
        "utility": utility | lost,
        **{
            name: {where: each[name] for where, each in plain.items()}
            for name in ("auroc", "alert_share", "calibration_slope", "ece")
        },
    }


def _in_budget(meeting: Meeting) -> NDArray[np.bool_]:
    fold = folds_of(meeting.stays.ids)[meeting.stays.patient]
    margin, share = meeting.met.margin, float(np.mean(meeting.home.alert))
    alert = np.zeros(len(fold), np.bool_)
    for each in range(FOLDS):
        first_weeks = margin[fold == (each + 1) % FOLDS]
        own = fold == each
        alert[own] = margin[own] >= threshold_within(first_weeks, share)
    return alert


def _plain(stays: Stays, judged: Judgement) -> dict[str, float | None]:
    counted = before_onset(stays.label, stays.starts)
    label = stays.label[counted]
    logit = judged.line.intercept + judged.line.slope * judged.margin[counted]
    return {
        "auroc": Ranked(logit, label).auroc(),
        "alert_share": float(np.mean(judged.alert)),
        "calibration_slope": _slope(logit, label),
        "ece": expected_calibration_error(sigmoid(logit), label),
    }


def _slope(logit: Float64, label: NDArray[np.int8]) -> float | None:
    try:
        return fit_line(logit, label).slope
    except ValueError:
        return None
