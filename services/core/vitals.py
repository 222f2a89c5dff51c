"""The measured variables: their names and their order on the wire and in the model."""

from typing import Final

VITALS: Final = ("HR", "O2Sat", "Temp", "SBP", "MAP", "DBP", "Resp", "EtCO2")
"""Bedside vital signs, in the order of the PhysioNet 2019 challenge."""

LABS: Final = (
    "BaseExcess",
    "HCO3",
    "FiO2",
    "pH",
    "PaCO2",
    "SaO2",
    "AST",
    "BUN",
    "Alkalinephos",
    "Calcium",
    "Chloride",
    "Creatinine",
    "Bilirubin_direct",
    "Glucose",
    "Lactate",
    "Magnesium",
    "Phosphate",
    "Potassium",
    "Bilirubin_total",
    "TroponinI",
    "Hct",
    "Hgb",
    "PTT",
    "WBC",
    "Fibrinogen",
    "Platelets",
)
"""Laboratory values, in the order of the PhysioNet 2019 challenge."""

VARIABLES: Final = VITALS + LABS
"""All 34 variables. A variable's place here is its number on the wire: append, never reorder."""

VARIABLE_INDEX: Final = {name: index for index, name in enumerate(VARIABLES)}
"""From a variable's name to its number."""

UNITS: Final = dict(
    zip(
        VARIABLES,
        (
            *("/min", "%", "Cel", "mm[Hg]", "mm[Hg]", "mm[Hg]", "/min", "mm[Hg]"),
            *("mmol/L", "mmol/L", "1", "[pH]", "mm[Hg]", "%", "U/L", "mg/dL", "U/L", "mg/dL"),
            *("mmol/L", "mg/dL", "mg/dL", "mg/dL", "mmol/L", "mg/dL", "mg/dL", "mmol/L"),
            *("mg/dL", "ng/mL", "%", "g/dL", "s", "10*3/uL", "mg/dL", "10*3/uL"),
        ),
        strict=True,
    )
)
"""From a variable's name to the UCUM code in which the model reads it."""

_POSITIVE: Final = (1e-9, float("inf"))

JUMPS: Final = {
    "HR": 50.0,
    "O2Sat": 20.0,
    "Temp": 2.0,
    "SBP": 60.0,
    "MAP": 50.0,
    "DBP": 50.0,
    "Resp": 25.0,
    "EtCO2": 25.0,
}
"""By how much a vital sign differs from its value before, within JUMP_WITHIN_S, to be suspect."""
JUMP_WITHIN_S: Final = 60
FROZEN_READINGS: Final = 500
"""So many equal values of a vital sign in a row are suspect."""

USUAL: Final = dict.fromkeys(LABS, _POSITIVE) | {
    "HR": (0.0, 300.0),
    "O2Sat": (50.0, 100.0),
    "Temp": (32.0, 44.0),
    "SBP": (40.0, 300.0),
    "MAP": (0.0, 250.0),
    "DBP": (20.0, 200.0),
    "Resp": (0.0, 60.0),
    "EtCO2": _POSITIVE,
    "BaseExcess": (float("-inf"), float("inf")),
    "FiO2": (0.15, 1.0),
    "Lactate": (1e-9, 30.0),
    "WBC": (1e-9, 500.0),
}
"""Lowest and highest value, both included, that the model may see, in model units."""
