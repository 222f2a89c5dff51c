"""What a clinician knows beforehand: of which features more, or less, never means a lower risk."""

from typing import Final

from services.core.features import Feature

_LEVELS: Final = frozenset({"last", "lowest", "highest", "mean"})
_WORSE_HIGH: Final = frozenset(
    {
        *("HR", "Resp", "FiO2", "Lactate", "Creatinine", "BUN", "Bilirubin_total"),
        *("Bilirubin_direct", "PTT", "AST"),
        *("shock_index", "modified_shock_index", "sirs_met", "qsofa_partial"),
        *("sofa_respiration", "sofa_coagulation", "sofa_liver", "sofa_cardiovascular"),
        *("sofa_renal", "sofa_partial"),
    }
)
_WORSE_LOW: Final = frozenset(
    {
        *("SBP", "MAP", "DBP", "O2Sat", "SaO2", "spo2_fio2"),
        *("Platelets", "pH", "HCO3", "BaseExcess"),
    }
)
"""Variables whose levels, and derived features that themselves, are worse the lower they are.

What is worse at both ends, as temperature or leukocytes, has no sign; nor has a trend, which says
little without the level that it leads to.
"""


def sign(feature: Feature) -> int:
    """1 where more may not lower the risk, -1 where less may not, 0 where both may.

    >>> sign(Feature("Lactate_last", "mmol/L", "last", "Lactate"))
    1
    """
    if feature.kind not in _LEVELS | {"derived"}:
        return 0
    about = feature.variable or feature.name
    return (about in _WORSE_HIGH) - (about in _WORSE_LOW)
