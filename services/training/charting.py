"""Recorded stays as if charted by other hands: a model shall learn the patient, not the hand."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.vitals import VITALS
from services.training.source import Stays

_BEDSIDE: Final = len(VITALS)
"""The bedside vital signs are the first of the variables, laboratory values the rest."""

_RARELY: Final = 0.5  # of the patients have their vital signs charted more rarely; so their labs
_LEAST: Final = 0.3  # of the values is what rare charting leaves, at the least
_OFTEN: Final = 0.25  # of the patients have their vital signs repeated where there is none
_REPEATED: Final = 0.5  # of those hours


def charted_otherwise(stays: Stays, random: np.random.Generator) -> Stays:
    """Thin values at random, and repeat vital signs, of each patient in a measure of their own."""
    patients = len(stays.ids)
    left = np.empty((patients, stays.values.shape[1]))
    left[:, :_BEDSIDE] = _share_left(patients, random)
    left[:, _BEDSIDE:] = _share_left(patients, random)
    values = stays.values.copy()
    values[random.random(values.shape) >= left[stays.patient]] = np.nan
    often = (random.random(patients) < _OFTEN)[stays.patient]
    bedside = values[:, :_BEDSIDE]
    empty = np.isnan(bedside) & (random.random(bedside.shape) < _REPEATED) & often[:, None]
    bedside[empty] = last_known(stays, bedside)[empty]
    return stays._replace(values=values)


def _share_left(patients: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(P, 1) the share of a patient's values that stays."""
    rarely = random.random((patients, 1)) < _RARELY
    return np.where(rarely, random.uniform(_LEAST, 1, (patients, 1)), 1.0)


def last_known(stays: Stays, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last value of the stay in each row, (R, V), NaN before the first."""
    row = np.arange(len(values))[:, None]
    latest = np.maximum.accumulate(np.where(np.isnan(values), -1, row), axis=0)
    first = np.repeat(stays.starts[:-1], np.diff(stays.starts))[:, None]
    last = np.take_along_axis(values, np.maximum(latest, 0), axis=0)
    return np.where(latest >= first, last, np.float32(np.nan))
