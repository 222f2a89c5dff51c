"""What a store might tell of ten days in a small hospital, for reports."""

from typing import Any

import msgspec

from services.cli.report.material import Answers, Change, Material, Model, Sign, Work
from services.core.baseline import VITAL_FEATURES
from services.core.events import Measurement, State
from services.core.windows import DAY, Window
from services.monitoring.findings import Share

START = 1_772_323_200_000_000  # 2026-03-01, µs
PERIOD = Window(START, START + 10 * DAY)
UNITS = ("MICU", "St. John's (3)")


def said(metric: str, unit: str, **of: Any) -> Measurement:
    """Ok, unless told otherwise."""
    usual: dict[str, Any] = {
        "cohort": "all",
        "start": PERIOD.start,
        "end": PERIOD.end,
        "revision": 0,
        "value": 0.42,
        "low": 0.31,
        "high": 0.53,
        "patients": 412,
        "positives": 57,
        "maturity": 0.95,
        "state": State.OK,
    }
    return Measurement(metric=metric, unit_of_analysis=unit, **{**usual, **of})


def hidden(metric: str, unit: str, cohort: str = "all") -> Measurement:
    return said(
        metric, unit, cohort=cohort, value=None, low=None, high=None, patients=None,
        positives=None, state=State.INSUFFICIENT, why="suppressed",
    )  # fmt: skip


def whole() -> list[Measurement]:
    alike = ("sensitivity", "ppv", "alerted_before_onset")
    found = [said(metric, "first_alert") for metric in alike]
    found += [said(metric, "hour") for metric in ("sensitivity", "specificity")]
    few = {"state": State.INSUFFICIENT, "why": "few_alerted"}
    found += [
        said("label_maturity", "hour", value=0.95),
        said("ppv", "hour", **few),
        said("lead_time_h", "first_alert", value=3.25, low=2.5, high=4.75),
        said("alerts_per_100_patient_days", "first_alert", value=30.25, low=27.5, high=34.0),
        said("calibration", "hour", value=0.96, low=0.8, high=1.2),
    ]
    for cohort in ("all", "sex=female", "sex=male", *(f"unit={unit}" for unit in UNITS)):
        found.append(said("alert_rate", "patient", cohort=cohort))
    gap = {"cohort": f"unit={UNITS[1]}", "reference": "unit=MICU", "state": State.ALARM}
    return [
        *found,
        said("alert_rate_difference", "patient", **gap, value=0.12, low=0.06, high=0.18),
        hidden("alert_rate", "patient", "unit=SICU"),
    ]


def daily(days: int = 10) -> list[Measurement]:
    found = []
    for start in range(PERIOD.start, PERIOD.start + days * DAY, DAY):
        at = {"start": start, "end": start + DAY}
        found.append(said("alerts_per_100_patient_days", "first_alert", value=28.5, **at))
        for number, feature in enumerate(VITAL_FEATURES):
            state = list(State)[(number + start // DAY) % 4]
            found.append(said("drift", "patient_hour", feature=feature, state=state, **at))
    return found


def sign(**of: Any) -> Sign:
    usual: dict[str, Any] = {
        "signal_id": "drift-Resp-all-1",
        "kind": "drift",
        "metric": "drift",
        "feature": "Resp",
        "cohort": "all",
        "opened": START + DAY,
        "step": "opened",
        "severity": "alarm",
        "start": START + DAY,
        "end": START + 2 * DAY,
        "summary": "drift of Resp: alarm, higher than the reference",
        "evidence": [("patients", "57"), ("p_value", "0.000999969"), ("reference", "ab" * 32)],
        "runbook": "drift",
        "mix": [Share("unit", "/min", 0.2, 0.98)],
        "near": ["assay lab/west from 2026-03-02 00:00Z"],
    }
    return Sign(**{**usual, **of})


def change(**of: Any) -> Change:
    usual: dict[str, Any] = {
        "kind": "baseline",
        "subject": "baseline/site",
        "made_at": START,
        "effective_from": START,
        "requested_by": "informatics",
        "approved_by": "committee",
        "reason": "First baseline.",
        "before": "",
        "after": "cd" * 32,
    }
    return Change(**{**usual, **of})


def material(**of: Any) -> Material:
    model = Model(
        name="sepsis", version="1.0.0", digest="ab" * 32, policy="1", role="shown",
        first=START, last=START + DAY, scored=41_234,
    )  # fmt: skip
    usual = Material(
        period=PERIOD,
        models=[model],
        work=Work(
            patients=412,
            scored=41_234,
            abstained={"too_old": 77},
            entries=90_000,
            refused={"BAD": 3},
        ),
        answers=Answers(
            raised=300,
            withdrawn=2,
            patients=150,
            verdicts={"confirmed": 160, "dismissed": 90},
            reasons={"not-septic": 60, "no-time": 25, "comfort-care": 5},
            wait_s=840.0,
        ),
        whole=whole(),
        daily=daily(),
        leads={-1: 20, 0: 15, 3: 31, 14: 12},
        signs=[sign()],
        changes=[change()],
    )
    return msgspec.structs.replace(usual, **of)


def quiet() -> Material:
    """Nothing in it is to be decided."""
    gaps = [each for each in whole() if not each.metric.endswith("_difference")]
    return material(signs=[], whole=gaps)
