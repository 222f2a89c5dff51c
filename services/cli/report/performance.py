"""The parts of the page about alerts: how many, how they were answered, how good they were."""

from collections.abc import Sequence
from typing import Final

from services.cli.moment import shown
from services.cli.report import words
from services.cli.report.decide import statement
from services.cli.report.material import Material
from services.cli.report.view import Bars, Cell, Days, Dots, Figure, Mark, Section, Table
from services.core.events import Measurement
from services.core.measures import MEASURES

FIRST: Final = "first_alert"
UNITS: Final = {FIRST: "first alert of a stay", "hour": "hour", "patient": "patient"}
PERFORMANCE: Final = (
    ("sensitivity", FIRST),
    ("alerted_before_onset", FIRST),
    ("ppv", FIRST),
    ("lead_time_h", FIRST),
    ("sensitivity", "hour"),
    ("specificity", "hour"),
    ("ppv", "hour"),
    ("calibration", "hour"),
)
BURDEN: Final = (
    ("alerts_per_100_patient_days", FIRST),
    ("alerts_per_100_patient_days", "hour"),
    ("alert_rate", "patient"),
    ("not_scored_rate", "patient"),
)
SHARES: Final = (
    ("sensitivity", FIRST),
    ("alerted_before_onset", FIRST),
    ("ppv", FIRST),
    ("sensitivity", "hour"),
    ("specificity", "hour"),
    ("ppv", "hour"),
)
_HEAD: Final = [
    "Number", "Counted by", "Value", "95 % interval", "Patients", "of them with onset",
    "Labels final", "State", "Why",
]  # fmt: skip
LATE: Final = (
    "What the patients had becomes known days later. Below a share of final labels of 90 %, or"
    " with fewer than 20 patients with an onset, a number is insufficient: it may stand there, but"
    " nobody should act on it."
)
_LONG: Final = 12
"""From so many hours before onset on a lead is one bar."""


def alerts(material: Material) -> Section:
    """Give the burden of alerts, and how they were answered."""
    told = material.answers
    counts = words.shown({**told.verdicts, "no answer": told.raised - sum(told.verdicts.values())})
    reasons = words.shown({words.answer(code): n for code, n in told.reasons.items()})
    waited = words.UNKNOWN if told.wait_s is None else f"{told.wait_s / 60:.0f} min"
    said = (
        f"{words.patients(told.raised)} alerts were raised for {words.patients(told.patients)}",
        f"patients; {words.patients(told.withdrawn)} were withdrawn after a correction.",
        f"Half of the answers came within {waited}." if told.verdicts else "Nobody answered.",
    )
    text = [" ".join(said)]
    return Section(
        "burden",
        "Alerts: how many, and how they were answered",
        text,
        [
            Figure(_measured("Burden over the whole period", material, BURDEN)),
            _by_day(material, "alerts_per_100_patient_days", FIRST),
            Figure(_counted("Answers", "Answer", counts)),
            Figure(_counted("Why alerts were dismissed", "Reason", reasons)),
        ],
    )


def performance(material: Material) -> Section:
    """Give how good the alerts were, as far as labels tell by now."""
    mature = statement(material, "label_maturity", "hour")
    text = [LATE, f"Hours whose label is final: {words.value(mature)}."]
    table = _measured("How good the alerts were, over the whole period", material, PERFORMANCE)
    dots = Dots(
        [_mark(material, *each) for each in SHARES], "share, with 95 % interval", percent=True
    )
    alt = "Sensitivity, PPV and specificity with their intervals; the table has the same numbers."
    return Section(
        "performance",
        "How good the alerts were",
        text,
        [Figure(table, dots, alt), _leads(material)],
    )


def _measured(caption: str, material: Material, asked: Sequence[tuple[str, str]]) -> Table:
    rows = []
    for metric, unit in asked:
        said = statement(material, metric, unit)
        rows.append([Cell(words.measure(metric)), Cell(UNITS[unit]), *_told(said)])
    note = " ".join(f"{words.measure(name)}: {MEASURES[name].meaning}" for name in _names(asked))
    return Table(caption, _HEAD, rows, note)


def _told(said: Measurement | None) -> list[Cell]:
    if said is None:
        return [*words.cells([words.UNKNOWN] * 5), words.state(None), Cell("not stated")]
    final = words.UNKNOWN if said.maturity is None else f"{said.maturity:.0%}"
    onset = words.UNKNOWN if said.positives is None else words.patients(said.positives)
    numbers = (words.value(said), words.interval(said), words.patients(said.patients))
    return [
        *words.cells((*numbers, onset, final)), words.state(said), Cell(words.because(said.why))
    ]  # fmt: skip


def _by_day(material: Material, metric: str, unit: str) -> Figure:
    days = [
        said
        for said in material.daily
        if (said.metric, said.unit_of_analysis, said.cohort) == (metric, unit, "all")
    ]
    rows = [[Cell(shown(said.start)), *_told(said)] for said in days]
    marks = [_of(shown(said.start)[5:10], words.judged(said)) for said in days]
    name = words.measure(metric)
    return Figure(
        Table(f"{name}, by day", ["Day from", *_HEAD[2:]], rows),
        Days(marks, name),
        f"{name} by day with intervals; days that cannot be judged are left out.",
    )


def _counted(caption: str, what: str, counts: dict[str, int | None]) -> Table:
    rows = [words.cells((name, words.patients(n))) for name, n in counts.items()]
    return Table(caption, [what, "How many"], rows)


def _leads(material: Material) -> Figure:
    grouped: dict[str, int] = {}
    for hours, count in sorted(material.leads.items()):
        grouped[_lead(hours)] = grouped.get(_lead(hours), 0) + count
    counts = words.shown(grouped)
    table = _counted("Patients with an onset, by time from alert to onset", "Before onset", counts)
    note = "Small counts are hidden, and the next smallest with them."
    return Figure(
        table._replace(note=note),
        Bars(list(counts), list(counts.values()), "patients"),
        "Patients with an onset by hours from their first alert; the table has the counts.",
    )


def _lead(hours: int) -> str:
    if hours < 0:
        return "missed"
    return f"{_LONG} h and more" if hours >= _LONG else f"{hours} to {hours + 1} h"


def _mark(material: Material, metric: str, unit: str) -> Mark:
    said = words.judged(statement(material, metric, unit))
    return _of(f"{words.measure(metric)}, by {UNITS[unit]}", said)


def _of(label: str, said: Measurement | None) -> Mark:
    return Mark(label, said.value, said.low, said.high) if said else Mark(label, None)


def _names(asked: Sequence[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(metric for metric, _ in asked))
