"""Ratios and clinical scores that are made of several variables' last values."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.compiled import compiled
from services.core.vitals import VARIABLE_INDEX, VITALS

Floats = NDArray[np.float32]

DERIVED: Final = 16
"""So many columns `derive` fills in."""
_HR, _SPO2, _TEMP, _SBP, _MAP, _DBP, _RESP = (
    VARIABLE_INDEX[name] for name in ("HR", "O2Sat", "Temp", "SBP", "MAP", "DBP", "Resp")
)
_FIO2, _PACO2, _BUN, _CREATININE, _BILIRUBIN, _WBC, _PLATELETS = (
    VARIABLE_INDEX[name]
    for name in ("FiO2", "PaCO2", "BUN", "Creatinine", "Bilirubin_total", "WBC", "Platelets")
)
_BEDSIDE: Final = len(VITALS)
_SIRS_TEMP: Final = (36, 38)
_SIRS_HR_ABOVE: Final = 90
_SIRS_RESP_ABOVE: Final = 20
_SIRS_PACO2_BELOW: Final = 32
_SIRS_WBC: Final = (4, 12)
_QSOFA_RESP: Final = 22
_QSOFA_SBP: Final = 100
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
_SOFA: Final = len(_SOFA_BOUNDS)
_NAN: Final = np.float32(np.nan)


@compiled
def derive(last: Floats, age_h: Floats, map_24h: np.float32, out: Floats) -> None:
    """Fill in the derived columns in the order of the catalog.

    Args:
        last: (V,) last values.
        age_h: (V,) their ages.
        map_24h: lowest MAP of 24 hours.
        out: (DERIVED,).
    """
    out[0] = _ratio(last[_HR], last[_SBP])
    out[1] = _ratio(last[_HR], last[_MAP])
    out[2] = last[_SBP] - last[_DBP]
    out[3] = _ratio(last[_SPO2], last[_FIO2])
    out[4] = _ratio(last[_BUN], last[_CREATININE])
    out[5] = _sirs_met(last)
    out[6] = np.int64(last[_RESP] >= _QSOFA_RESP) + np.int64(last[_SBP] <= _QSOFA_SBP)
    out[7] = _sofa(out[3], 0)
    out[8] = _sofa(last[_PLATELETS], 1)
    out[9] = _sofa(last[_BILIRUBIN], 2)
    out[10] = _sofa(map_24h, 3)
    out[11] = _sofa(last[_CREATININE], 4)
    out[12] = 0
    for term in range(_SOFA):
        if not np.isnan(out[7 + term]):
            out[12] += out[7 + term]
    out[13:16] = 0
    for variable in range(len(age_h)):
        if variable < _BEDSIDE:
            out[13] += age_h[variable] < 1
        else:
            out[14] += age_h[variable] < 6  # noqa: PLR2004 - hours, as the column is named
            out[15] += age_h[variable] < 24  # noqa: PLR2004 - the same


@compiled
def _ratio(above: np.float32, below: np.float32) -> np.float32:
    """NaN unless the divisor is above 0."""
    return above / below if below > 0 else _NAN


@compiled
def _sirs_met(last: Floats) -> np.int64:
    """SIRS criteria met (Bone et al., Chest 1992;101:1644); what is unknown is not met."""
    temp, wbc = last[_TEMP], last[_WBC]
    met = np.int64(temp < _SIRS_TEMP[0] or temp > _SIRS_TEMP[1])
    met += last[_HR] > _SIRS_HR_ABOVE
    met += last[_RESP] > _SIRS_RESP_ABOVE or last[_PACO2] < _SIRS_PACO2_BELOW
    met += wbc < _SIRS_WBC[0] or wbc > _SIRS_WBC[1]
    return np.int64(met)


@compiled
def _sofa(value: np.float32, term: int) -> np.float32:
    """One SOFA term, NaN where unknown; terms from lung to kidney.

    Vincent et al., Intensive Care Med 1996;22:707; SpO2/FiO2 in place of PaO2/FiO2 after
    Pandharipande et al., Crit Care Med 2009;37:1317. The circulation counts low pressure alone
    (0 or 1): doses of vasopressors are not among the variables.
    """
    if np.isnan(value):
        return _NAN
    reached = 0
    for bound in _SOFA_BOUNDS[term]:
        reached += value >= bound
    passed = len(_SOFA_BOUNDS[term]) - reached if _SOFA_WORSE_BELOW[term] else reached
    return np.float32(passed)
