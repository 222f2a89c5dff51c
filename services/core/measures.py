"""Names and meaning of every measurement, as data: what it counts, in which unit, who must act."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric of metrics.v1 means.

    Attributes:
        meaning: one sentence.
        unit: UCUM code, or what is counted.
        kind: of the signals that it may open; "" where it opens none.
        signal_unit: the one unit of analysis whose statements open signals.
        runbook: where the remedy stands, under docs/runbooks.
    """

    meaning: str
    unit: str
    kind: str = ""
    signal_unit: str = ""
    runbook: str = ""


MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "drift": Measure(
            meaning="Population stability index of a feature against the baseline, by patient.",
            unit="1",
            kind="drift",
            signal_unit="patient_hour",
            runbook="drift",
        ),
        "alert_rate": Measure(
            meaning="Share of a group's patients who had an alert.",
            unit="1",
        ),
        "alert_rate_difference": Measure(
            meaning="Share of a group's patients who had an alert, less the largest group's.",
            unit="1",
            kind="fairness",
            signal_unit="patient",
            runbook="fairness",
        ),
        "not_scored_rate": Measure(
            meaning="Share of a group's patients from whom scoring abstained all the time.",
            unit="1",
        ),
        "not_scored_rate_difference": Measure(
            meaning="Share of a group's patients who were never scored, less the largest group's.",
            unit="1",
            kind="fairness",
            signal_unit="patient",
            runbook="fairness",
        ),
        "alerted_patient_days": Measure(
            meaning="Share of patient-days with an alert in the span that ADWIN holds for stable.",
            unit="1",
            kind="burden",
            signal_unit="patient_day",
            runbook="burden",
        ),
        "calibration": Measure(
            meaning="Hours soon before onset that came, over those that the scores announced.",
            unit="1",
            kind="performance",
            signal_unit="hour",
            runbook="performance",
        ),
        "calibration_difference": Measure(
            meaning="Calibration of a group, less that of the largest group.",
            unit="1",
            kind="fairness",
            signal_unit="hour",
            runbook="fairness",
        ),
        "sensitivity": Measure(
            meaning="Share of the septic that were alerted within the horizon before onset.",
            unit="1",
            kind="performance",
            signal_unit="first_alert",
            runbook="performance",
        ),
        "ppv": Measure(
            meaning="Share of the alerts that an onset followed within the horizon.",
            unit="1",
            kind="performance",
            signal_unit="first_alert",
            runbook="performance",
        ),
        "specificity": Measure(
            meaning="Share of the hours far from onset in which the score stayed low.",
            unit="1",
        ),
        "alerted_before_onset": Measure(
            meaning="Share of the septic whose first alert came before onset, however early.",
            unit="1",
        ),
        "alerts_per_100_patient_days": Measure(
            meaning="Alerts raised for every hundred days that patients were watched.",
            unit="/(100.d)",
        ),
        "lead_time_h": Measure(
            meaning="Median time from first alert to onset; a missed case counts as missed.",
            unit="h",
        ),
        "label_maturity": Measure(
            meaning="Share of the units whose label is final.",
            unit="1",
        ),
    }
)
"""By the name that `Measurement.metric` carries."""
