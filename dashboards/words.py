"""Codes of the ledger in the words that readers of boards use."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from services.core.feedback import REASONS

MEASURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "drift": "Inputs have drifted",
        "alert_rate": "Patients alerted",
        "alert_rate_difference": "Patients alerted, against the largest group",
        "not_scored_rate": "Patients never scored",
        "not_scored_rate_difference": "Patients never scored, against the largest group",
        "alerted_patient_days": "Patient-days with an alert",
        "calibration": "Observed over expected",
        "calibration_difference": "Observed over expected, against the largest group",
        "sensitivity": "Sensitivity",
        "ppv": "PPV",
        "specificity": "Specificity",
        "alerted_before_onset": "Alerted before onset, however early",
        "alerts_per_100_patient_days": "Alerts per 100 patient-days",
        "lead_time_h": "Lead time to onset, h (median)",
        "label_maturity": "Labels that are final",
    }
)
"""By metric of `services.core.measures`."""

MATTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "version_conflict": "One version with two values",
        "patient_merge": "Patients merged at the source",
        "subscription_gap": "Subscription lacks events",
        "subscription_silent": "Subscription is silent",
    }
)
"""By matter of `services.core.notices`."""

DIMENSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sex": "Sex",
        "birth_sex": "Sex at birth",
        "age_band": "Age band",
        "race": "Race",
        "ethnicity": "Ethnicity",
        "language": "Language",
        "payer": "Payer",
        "unit": "Unit",
    }
)
"""By dimension of `services.core.cohorts`."""

WHY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "suppressed": "fewer than 11 patients: not shown",
        "few_patients": "too few patients",
        "few_positives": "too few patients with an onset",
        "few_alerted": "too few alerted patients",
        "few_hours": "too few hours",
        "immature": "too few labels are final",
        "wide_interval": "interval too wide to decide",
        "no_baseline": "no baseline yet",
        "no_site_baseline": "no baseline of this site yet",
        "no_reference": "no reference for this cohort",
        "other_length": "baseline is for windows of another length",
        "other_features": "baseline has other features",
        "other_baseline": "the baseline changed within the window",
        "missed": "the median case was missed",
        "psi": "by the distance of the distribution",
        "mean": "by the shift of the mean",
        "twice": "in two windows running",
        "": "",
    }
)
"""By `why` of a measurement; a word that is not here is shown as it is."""

ANSWERS: Final[Mapping[str, str]] = MappingProxyType(
    {code: override.words for code, override in REASONS.items()}
)
"""By coded reason of an override."""

TAKEN_FOR: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vitals": "became vital signs",
        "tick": "told the time",
        "out_of_scope": "out of scope",
        "duplicate": "seen before",
        "dead": "could not be used",
        "empty": "nothing in it",
    }
)
"""By fate of an entry."""
