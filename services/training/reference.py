"""The training population as `reference.json`: what drift is measured from."""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.core.baseline import EVERYBODY, SMALLEST_COHORT
from services.core.freeze import PatientHours, Period, freeze
from services.core.stats.calibration import curve
from services.core.stats.sketches import (
    SMALLEST_CELL,
    Histogram,
    decile_edges,
    histogram,
    shown_edges,
)
from services.core.vitals import UNITS, VARIABLES, VITALS
from services.training.booster import SEED
from services.training.source import Stays
from services.training.study import Course, Judged
from services.training.support import support

SCHEMA: Final = "vigil.reference/1"


def reference(given: Course, judged: Judged) -> dict[str, Any]:
    """Describe patient-hours by variable, presence, score and calibration.

    Every number rests on SMALLEST_CELL patients or more. Scores are those of models that never
    saw the patient.
    """
    stays = given.stays
    return {
        "schema": SCHEMA,
        "kind": "training",
        "unit_of_analysis": "patient-hour; each patient weighs 1 per feature",
        "precision": "values are rounded to float32 before they are compared with edges",
        "patients": len(stays.ids),
        "hours": len(stays.hour),
        "smallest_cell": SMALLEST_CELL,
        "variables": {
            name: {"unit": UNITS[name], **_binned(stays.values[:, place], stays.patient)}
            for place, name in enumerate(VARIABLES)
        },
        "presence": {
            name: _presence(stays, stays.values[:, place]) for place, name in enumerate(VARIABLES)
        },
        "score": _binned(judged.score.astype(np.float32), stays.patient),
        "alert_share": round(float(_mean_by_patient(judged.alert, stays)), 6),
        "calibration": calibration(given, judged),
        "nulls": _nulls(stays),
        "support": support(stays),
    }


def calibration(given: Course, judged: Judged) -> list[dict[str, Any]]:
    """The calibration curve over hours before onset; a bin with a small cell is left out."""
    counted = np.flatnonzero(given.counted)
    label, patient = given.stays.label[counted], given.stays.patient[counted]
    bins = []
    for each in curve(judged.score[counted], label):
        patients = len(np.unique(patient[each.rows]))
        positive = len(np.unique(patient[each.rows][label[each.rows] == 1]))
        if min(patients, positive) >= SMALLEST_CELL:
            bins.append(
                {
                    "mean_score": round(each.mean_score, 6),
                    "observed": round(each.observed, 6),
                    "hours": len(each.rows),
                    "patients": patients,
                }
            )
    return bins


def _nulls(stays: Stays) -> dict[str, Any] | None:
    """What chance does to each vital sign and its presence in 24-h windows of K patients.

    In the form of a site's baseline (`core.baseline`), in the bins above; None where there are too
    few patients for one. They say how far a ward lies from this population; no alarm rests on it.
    """
    charted = ~np.isnan(stays.values).all(axis=1)
    values = stays.values[charted][:, : len(VITALS)].astype(np.float64)
    present, patient = np.unique(stays.patient[charted], return_inverse=True)
    if len(present) < SMALLEST_COHORT:
        return None
    # Each in a unit of its own: only everybody together has a reference.
    units = [str(number) for number in present]
    given = PatientHours(patient, stays.hour[charted], values, units)
    frozen = freeze(np.random.default_rng(SEED), given, Period("training", kind="training"))
    known = frozen.cohorts[EVERYBODY].features
    return {name: msgspec.to_builtins(feature.nulls) for name, feature in known.items()}


def _binned(values: NDArray[np.float32], patient: NDArray[np.int64]) -> dict[str, Any]:
    """Edges and histogram of the hours with a value; `absent` where too few patients have one."""
    measured = ~np.isnan(values)
    values, patient = values[measured], patient[measured]
    if len(np.unique(patient)) < SMALLEST_CELL:
        return {"kind": "absent", "edges": [], "weight": [], "patients": None}
    edges = shown_edges(values, patient, decile_edges(values))
    return {
        "kind": "binned",
        "edges": _decimal(edges),
        **_cells(histogram(values, patient, edges)),
    }


def _cells(found: Histogram) -> dict[str, Any]:
    return {"weight": [round(w, 6) for w in found.weight.tolist()], "patients": found.total}


def _decimal(edges: NDArray[np.floating]) -> list[float]:
    """The shortest decimals that round to these float32, as charted: 36.7, not 36.70000076."""
    return [float(str(edge)) for edge in edges.astype(np.float32)]


def _presence(stays: Stays, values: NDArray[np.float32]) -> dict[str, Any]:
    """Share of a patient's hours with a value, averaged over patients."""
    measured = ~np.isnan(values)
    patients = len(np.unique(stays.patient[measured]))
    if patients < SMALLEST_CELL:
        return {"share": None, "patients": None}
    return {"share": round(float(_mean_by_patient(measured, stays)), 6), "patients": patients}


def _mean_by_patient(flag: NDArray[np.bool_], stays: Stays) -> np.floating:
    share = np.add.reduceat(flag.astype(np.float64), stays.starts[:-1]) / np.diff(stays.starts)
    return np.mean(share)
