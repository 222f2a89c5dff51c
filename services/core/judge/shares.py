"""Performance as data: of what each number is a share, and the evidence that it takes."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from services.core.label_tallies import SCORE_UNIT

ENOUGH: Final = 20
"""Positive patients for a sensitivity, alerted ones for a PPV, patients for a rate of alerts."""
ENOUGH_CALIBRATED: Final = 100
"""Patients for a specificity or a calibration."""
ENOUGH_HOURS: Final = 1000
"""Hours for a calibration."""
MATURE: Final = 0.9
"""What needs labels needs so large a share of them final."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One sum of columns over another.

    Attributes:
        metric: name in `core.measures`.
        unit: of analysis, hour or first_alert.
        above: columns of `cohorts.COLUMNS` that are added above.
        below: columns that are added below; who has something there counts as evidence.
        few: what is said when fewer than `least` patients do.
        least: how many it takes.
        matures: which labels must be final, see MATURITY; "" none.
        hours: how many hours it takes, of which the label is final.
        told_in: what is below is told in this unit.
        times: the value is so many times the share.
        interval: patients repeat below (patients), each encounter is there once (wilson), or the
            share is of a whole and has none ("").
    """

    metric: str
    unit: str
    above: tuple[str, ...]
    below: tuple[str, ...]
    few: str = "few_patients"
    least: int = ENOUGH
    matures: str = ""
    hours: int = 0
    told_in: float = 1.0
    times: float = 1.0
    interval: Literal["patients", "wilson", ""] = "patients"


POSITIVE_HOURS: Final = ("true_positive", "false_negative")
NEGATIVE_HOURS: Final = ("true_negative", "false_positive")
FINAL_HOURS: Final = POSITIVE_HOURS + NEGATIVE_HOURS
ONSETS: Final = ("timely", "early", "missed")
FIRST_ALERTS: Final = ("first_true", "first_false")

MATURITY: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "hour": (FINAL_HOURS, "immature"),
    "first_alert": (FIRST_ALERTS, "first_immature"),
    "onset": (ONSETS, "onset_immature"),
}
"""Columns of the units whose label is final, and of those whose label is not."""
POSITIVES: Final[Mapping[str, tuple[str, ...]]] = {"hour": POSITIVE_HOURS, "first_alert": ONSETS}
"""Columns that make a patient a positive one, by unit of analysis."""

CALIBRATION: Final = Share(
    metric="calibration",
    unit="hour",
    above=POSITIVE_HOURS,
    below=("expected",),
    least=ENOUGH_CALIBRATED,
    matures="hour",
    hours=ENOUGH_HOURS,
    told_in=float(SCORE_UNIT),
)
"""Calibration in the large: observed over expected."""
SHARES: Final = (
    Share(
        metric="sensitivity",
        unit="hour",
        above=("true_positive",),
        below=POSITIVE_HOURS,
        few="few_positives",
        matures="hour",
    ),
    Share(
        metric="specificity",
        unit="hour",
        above=("true_negative",),
        below=NEGATIVE_HOURS,
        least=ENOUGH_CALIBRATED,
        matures="hour",
    ),
    Share(
        metric="ppv",
        unit="hour",
        above=("true_positive",),
        below=("true_positive", "false_positive"),
        few="few_alerted",
        matures="hour",
    ),
    CALIBRATION,
    Share(
        metric="alerts_per_100_patient_days",
        unit="hour",
        above=("raised",),
        below=("hours",),
        told_in=24.0,
        times=100.0,
    ),
    Share(
        metric="label_maturity",
        unit="hour",
        above=FINAL_HOURS,
        below=(*FINAL_HOURS, "immature"),
        least=1,
        matures="hour",
        interval="",
    ),
    Share(
        metric="sensitivity",
        unit="first_alert",
        above=("timely",),
        below=ONSETS,
        few="few_positives",
        matures="onset",
        interval="wilson",
    ),
    Share(
        metric="alerted_before_onset",
        unit="first_alert",
        above=("timely", "early"),
        below=ONSETS,
        few="few_positives",
        matures="onset",
        interval="wilson",
    ),
    Share(
        metric="ppv",
        unit="first_alert",
        above=("first_true",),
        below=FIRST_ALERTS,
        few="few_alerted",
        matures="first_alert",
        interval="wilson",
    ),
    Share(
        metric="alerts_per_100_patient_days",
        unit="first_alert",
        above=(*FIRST_ALERTS, "first_late", "first_immature"),
        below=("hours",),
        told_in=24.0,
        times=100.0,
    ),
    Share(
        metric="label_maturity",
        unit="first_alert",
        above=FIRST_ALERTS,
        below=(*FIRST_ALERTS, "first_immature"),
        least=1,
        matures="first_alert",
        interval="",
    ),
)
"""Each number that is a share, in the order in which they are published."""

LEAD_TIME: Final = Share(
    metric="lead_time_h",
    unit="first_alert",
    above=("led",),
    below=("led", "led_missed"),
    few="few_positives",
    matures="onset",
)
"""The one that is a median; the share that it counts is told beside it."""
