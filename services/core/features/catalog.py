"""The catalog of features: name, unit and kind of every column."""

from typing import Final, NamedTuple

from services.core.features.grid import CHANGES_H, HISTORY_HOURS, TREND_VARIABLES, WINDOWS_H
from services.core.vitals import UNITS, VARIABLES


class Feature(NamedTuple):
    """One column of the model's input.

    Attributes:
        name: such as `HR_slope_6h`.
        unit: UCUM; `1` for a ratio, a score or a number of things.
        kind: last, age, count, lowest, highest, mean, slope, hours, deviation, change, derived
            or static.
        variable: the measured variable, or None when it is made of several.
        window_h: hours it looks back, or None.
    """

    name: str
    unit: str
    kind: str
    variable: str | None = None
    window_h: int | None = None


_DERIVED: Final = (
    Feature("shock_index", "1", "derived"),
    Feature("modified_shock_index", "1", "derived"),
    Feature("pulse_pressure", "mm[Hg]", "derived"),
    Feature("spo2_fio2", "%", "derived"),
    Feature("bun_creatinine", "1", "derived"),
    Feature("sirs_met", "1", "derived"),
    Feature("qsofa_partial", "1", "derived"),
    Feature("sofa_respiration", "1", "derived"),
    Feature("sofa_coagulation", "1", "derived"),
    Feature("sofa_liver", "1", "derived"),
    Feature("sofa_cardiovascular", "1", "derived"),
    Feature("sofa_renal", "1", "derived"),
    Feature("sofa_partial", "1", "derived"),
    Feature("vitals_this_hour", "1", "derived"),
    Feature("labs_6h", "1", "derived"),
    Feature("labs_24h", "1", "derived"),
)


def _standing_features() -> list[Feature]:
    return (
        [Feature(f"{name}_last", UNITS[name], "last", name) for name in VARIABLES]
        + [Feature(f"{name}_age", "h", "age", name) for name in VARIABLES]
        + [Feature(f"{name}_count", "1", "count", name) for name in VARIABLES]
    )


def _trend_features() -> list[Feature]:
    kinds = ("lowest", "highest", "mean", "slope", "hours")
    unit = {"slope": "{}/h", "hours": "h"}
    return [
        Feature(
            f"{name}_{kind}_{window}h",
            unit.get(kind, "{}").format(UNITS[name]),
            kind,
            name,
            window,
        )
        for window in WINDOWS_H
        for kind in kinds
        for name in TREND_VARIABLES
    ]


def _shift_features() -> list[Feature]:
    return [
        Feature(f"{name}_deviation_24h", UNITS[name], "deviation", name, HISTORY_HOURS)
        for name in TREND_VARIABLES
    ] + [
        Feature(f"{name}_change_{hours}h", UNITS[name], "change", name, hours)
        for hours in CHANGES_H
        for name in TREND_VARIABLES
    ]


FEATURES: Final = (
    *_standing_features(),
    *_trend_features(),
    *_shift_features(),
    *_DERIVED,
    Feature("age", "a", "static"),
    Feature("sex", "1", "static"),
)
"""Every feature in the order of the columns of `compute`."""
