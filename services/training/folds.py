"""Which patients are kept apart: folds and the thinning of hours, from a hash of the id alone."""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.training.source import Stays

FOLDS: Final = 5
THINNING: Final = 3
"""Of stays without sepsis one hour in this many is learned from, at this many times its weight."""

_PARTS: Final = 1000


def folds_of(ids: tuple[str, ...]) -> NDArray[np.int64]:
    """(P,) the fold of each patient, 0 to FOLDS - 1."""
    return np.array([_number(name) % FOLDS for name in ids])


def drawn(ids: tuple[str, ...], share: float) -> NDArray[np.bool_]:
    """(P,) about this share of the patients, the same of them in any company."""
    number = np.array([_number(name) // (FOLDS * THINNING) % _PARTS for name in ids])
    chosen: NDArray[np.bool_] = number < share * _PARTS
    return chosen


def thinned(stays: Stays) -> NDArray[np.bool_]:
    """(R,) the hours to learn from: all of septic stays, one in THINNING of the others."""
    offset = np.array([_number(name) // FOLDS % THINNING for name in stays.ids])
    turn = (np.arange(len(stays.hour)) + offset[stays.patient]) % THINNING
    taught: NDArray[np.bool_] = septic(stays)[stays.patient] | (turn == 0)
    return taught


def septic(stays: Stays) -> NDArray[np.bool_]:
    """(P,) whether the stay has an onset."""
    return np.maximum.reduceat(stays.label, stays.starts[:-1]).astype(np.bool_)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
