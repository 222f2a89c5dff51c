"""The parts of the page that watch: groups, drift and what explains it, changes."""

from collections.abc import Iterator
from typing import Final

from services.cli.moment import shown
from services.cli.report import words
from services.cli.report.decide import statement
from services.cli.report.material import Material, Sign
from services.cli.report.view import Cell, Dots, Figure, Grid, Mark, Section, Table
from services.core.baseline import EVERYBODY, PRESENCE, VITAL_FEATURES
from services.core.events import Measurement

GROUPED: Final = (
    ("alert_rate", "patient"),
    ("sensitivity", "first_alert"),
    ("ppv", "first_alert"),
)
GAPS: Final = (
    ("alert_rate_difference", "patient"),
    ("not_scored_rate_difference", "patient"),
    ("calibration_difference", "hour"),
)
GROUPS: Final = (
    "Numbers of the whole period. A difference to the largest group of a dimension is ok when its"
    " whole interval lies within five points, an alarm when it lies wholly outside, else"
    " insufficient: no alarm is no proof of fairness. Groups of fewer than 11 patients, and the"
    " next smallest with them, are not shown."
)
SIGNALS: Final = (
    "Each signal that was open in the period, as it stood at the end. What may explain it: units"
    " and codes with another share than in the three days before, reasons for refusals, and"
    " changes that people made. A drift that nothing explains is the one to look at first."
)


def groups(material: Material) -> Section:
    """Give each group's numbers, with the states of their differences."""
    figures = [
        figure
        for dimension, title in words.GROUPED_BY.items()
        for figure in _dimension(material, dimension, title)
    ]
    return Section("groups", "Groups of patients", [GROUPS], figures)


def _dimension(material: Material, dimension: str, title: str) -> Iterator[Figure]:
    cohorts = sorted(
        {s.cohort for s in material.whole if s.cohort.startswith(f"{dimension}=")},
    )
    if not cohorts:
        return
    head = ["Group", "Patients", *(words.measure(metric) for metric, _ in GROUPED)]
    rows = [_group(material, cohort) for cohort in cohorts]
    marks = [_rate(material, cohort) for cohort in cohorts]
    table = Table(f"{title}: groups", head, rows)
    alt = f"Share of patients alerted by {title.lower()}, with intervals where it can be judged."
    yield Figure(table, Dots(marks, "patients alerted, with 95 % interval", percent=True), alt)
    against = [row for cohort in cohorts for row in _gaps(material, cohort)]
    head = ["Group", "Against", "Difference in", "Difference", "Interval", "State", "Why"]
    yield Figure(Table(f"{title}: differences to the largest group", head, against))


def _group(material: Material, cohort: str) -> list[Cell]:
    counted = statement(material, "alert_rate", "patient", cohort)
    row = words.cells((words.group(cohort), words.patients(counted.patients if counted else None)))
    numbers = (words.estimate(statement(material, *each, cohort)) for each in GROUPED)
    return [*row, *numbers]


def _gaps(material: Material, cohort: str) -> Iterator[list[Cell]]:
    for metric, unit in GAPS:
        said = statement(material, metric, unit, cohort)
        if said is not None:
            yield [
                Cell(words.group(cohort)),
                Cell(words.group(said.reference)),
                Cell(words.measure(metric.removesuffix("_difference"))),
                *words.cells((words.value(said), words.interval(said))),
                words.state(said),
                Cell(words.because(said.why)),
            ]


def _rate(material: Material, cohort: str) -> Mark:
    said = words.judged(statement(material, "alert_rate", "patient", cohort))
    label = words.group(cohort)
    return Mark(label, said.value, said.low, said.high) if said else Mark(label, None)


def drift(material: Material) -> Section:
    """Give the signals with what explains them, and the states of everybody's windows."""
    rows = [_signal(sign) for sign in sorted(material.signs, key=_pressing)]
    head = ["About", "Of whom", "State", "Since", "Evidence", "What may explain it"]
    said = [s for s in material.daily if s.metric == "drift" and s.cohort == EVERYBODY]
    return Section(
        "drift",
        "Drift, and other signals",
        [SIGNALS],
        [
            Figure(Table("Signals", head, rows)),
            *_states("Values", said, [f for f in VITAL_FEATURES if not f.endswith(PRESENCE)]),
            *_states("How often measured", said, [f for f in VITAL_FEATURES if _present(f)]),
        ],
    )


def _signal(sign: Sign) -> list[Cell]:
    closed = Cell(f"closed, was {sign.severity}")
    facts = "; ".join(words.fact(*each) for each in sign.evidence)
    return [
        Cell(words.about(sign.metric, sign.feature)),
        Cell(words.group(sign.cohort)),
        words.severity(sign.severity) if sign.is_open else closed,
        *words.cells((shown(sign.opened), facts, _explained(sign))),
    ]


def _explained(sign: Sign) -> str:
    shares = [
        f"{share.what} {share.name}: {share.before:.0%} before, {share.now:.0%} then"
        for share in sign.mix or ()
    ]
    if sign.kind == "drift" and sign.mix is None:
        shares = ["units and codes were not looked at"]
    return "; ".join([*shares, *sign.near]) or "nothing found"


def _pressing(sign: Sign) -> tuple[bool, bool, bool, int, str]:
    """Order signals: open before closed, alarm before watch, everybody before a group."""
    return (
        not sign.is_open, sign.severity != "alarm", sign.cohort != EVERYBODY, sign.opened,
        sign.signal_id,
    )  # fmt: skip


def _states(title: str, daily: list[Measurement], features: list[str]) -> Iterator[Figure]:
    said = {(s.start, s.feature): s for s in daily if s.feature in features}
    starts = sorted({start for start, _ in said})
    if not starts:
        return
    names = [feature.removesuffix(PRESENCE) for feature in features]
    days = [shown(start) for start in starts]
    rows = [
        [Cell(day), *(words.state(said.get((start, feature))) for feature in features)]
        for day, start in zip(days, starts, strict=True)
    ]
    grid = [[_state(said.get((start, feature))) for start in starts] for feature in features]
    yield Figure(
        Table(f"Drift by day: {title.lower()}, all patients", ["Day from", *names], rows),
        Grid(names, [day[5:10] for day in days], grid),
        f"{title}: circle ok, triangle watch, square alarm, dash insufficient, by day.",
    )


def changes(material: Material) -> Section:
    """Give what people changed."""
    rows = [
        words.cells(
            (
                shown(c.effective_from), f"{c.kind} {c.subject}", c.requested_by, c.approved_by,
                c.reason, f"{c.before[:12] or 'nothing'} → {c.after[:12] or 'nothing'}",
            )
        )
        for c in material.changes
    ]  # fmt: skip
    head = ["In force from", "What", "Asked for by", "Approved by", "Why", "Before → after"]
    text = [] if rows else ["Nobody recorded a change in this period."]
    figures = [Figure(Table("Changes", head, rows))] if rows else []
    return Section("changes", "Changes, and by whom", text, figures)


def _state(said: Measurement | None) -> str:
    return str(said.state) if said else ""


def _present(feature: str) -> bool:
    return feature.endswith(PRESENCE)
