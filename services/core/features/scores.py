"""Ratios and clinical scores that are made of several variables' last values."""

from typing import Final

import numpy as np

from services.core.features.grid import Floats, Standing
from services.core.vitals import VARIABLE_INDEX, VITALS

_RATIOS: Final = np.array(
    [
        [VARIABLE_INDEX[above], VARIABLE_INDEX[below]]
        for above, below in (
            ("HR", "SBP"),
            ("HR", "MAP"),
            ("O2Sat", "FiO2"),
            ("BUN", "Creatinine"),
        )
    ]
).T
_SIRS: Final = np.array([VARIABLE_INDEX[name] for name in ("Temp", "HR", "Resp", "WBC")])
_SIRS_BELOW: Final = np.array([36, -np.inf, -np.inf, 4], np.float32)
_SIRS_ABOVE: Final = np.array([38, 90, 20, 12], np.float32)
_SIRS_PACO2_BELOW: Final = 32
_QSOFA_RESP: Final = 22
_QSOFA_SBP: Final = 100
_SOFA: Final = np.array(
    [VARIABLE_INDEX[n] for n in ("Platelets", "Bilirubin_total", "Creatinine")]
)
# Bounds of SpO2/FiO2, platelets, bilirubin, MAP, creatinine; one point for each that is passed.
_SOFA_BOUNDS: Final = np.array(
    [
        [89, 214, 357, 512],
        [20, 50, 100, 150],
        [1.2, 2, 6, 12],
        [-np.inf, -np.inf, -np.inf, 70],
        [1.2, 2, 3.5, 5],
    ],
    np.float32,
)
_SOFA_WORSE_BELOW: Final = np.array([True, True, False, True, False])


def derived_from(standing: Standing, map_24h: Floats) -> list[Floats]:
    """The derived columns in the order of the catalog, in blocks of (N, some)."""
    last, age_h = standing.last, standing.last_age_h
    ratios = _ratios(last)
    systolic, diastolic = last[:, VARIABLE_INDEX["SBP"]], last[:, VARIABLE_INDEX["DBP"]]
    sofa = _sofa(last, ratios[:, 2], map_24h)
    scores = (
        _sirs_met(last),
        np.add(last[:, VARIABLE_INDEX["Resp"]] >= _QSOFA_RESP, systolic <= _QSOFA_SBP, dtype="f4"),
    )
    counts = (
        np.nansum(sofa, axis=1),
        np.less(age_h[:, : len(VITALS)], 1).sum(axis=1),
        np.less(age_h[:, len(VITALS) :], 6).sum(axis=1),
        np.less(age_h[:, len(VITALS) :], 24).sum(axis=1),
    )
    pulse = (systolic - diastolic)[:, None]
    blocks = (ratios[:, :2], pulse, ratios[:, 2:], np.stack(scores, axis=1), sofa)
    return [*blocks, np.stack(counts, axis=1, dtype=np.float32, casting="same_kind")]


def _ratios(last: Floats) -> Floats:
    """The four ratios of `_RATIOS`, (N, 4), NaN unless the divisor is above 0."""
    above, below = last[:, _RATIOS[0]], last[:, _RATIOS[1]]
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _sirs_met(last: Floats) -> Floats:
    """SIRS criteria met (Bone et al., Chest 1992;101:1644); what is unknown is not met."""
    value = last[:, _SIRS]
    met = (value > _SIRS_ABOVE) | (value < _SIRS_BELOW)
    met[:, 2] |= last[:, VARIABLE_INDEX["PaCO2"]] < _SIRS_PACO2_BELOW
    total: Floats = met.sum(axis=1, dtype=np.float32)
    return total


def _sofa(last: Floats, oxygen: Floats, map_24h: Floats) -> Floats:
    """SOFA terms that the variables allow, (N, 5), NaN where unknown: from lungs to kidney.

    Vincent et al., Intensive Care Med 1996;22:707; SpO2/FiO2 in place of PaO2/FiO2 after
    Pandharipande et al., Crit Care Med 2009;37:1317. The circulation counts low pressure alone
    (0 or 1): doses of vasopressors are not among the variables.
    """
    platelets, bilirubin, creatinine = (last[:, place] for place in _SOFA)
    value = np.stack([oxygen, platelets, bilirubin, map_24h, creatinine], axis=1)
    reached = (value[:, :, None] >= _SOFA_BOUNDS).sum(axis=2)
    points = np.where(_SOFA_WORSE_BELOW, _SOFA_BOUNDS.shape[1] - reached, reached)
    return np.where(np.isnan(value), np.float32(np.nan), points)
