"""The parts of the page to begin with: in short, what to decide, what the model did."""

from typing import Final

from services.cli.moment import shown
from services.cli.report import words
from services.cli.report.decide import statement, steps
from services.cli.report.material import Material
from services.cli.report.view import Cell, Figure, Section, Table

FIRST: Final = "first_alert"
SHORT: Final = (
    ("alerts_per_100_patient_days", FIRST),
    ("sensitivity", FIRST),
    ("ppv", FIRST),
    ("lead_time_h", FIRST),
)
BELIEF: Final = (
    "In brackets stands the 95 % interval. Ok says that a number has enough behind it, not that it"
    " is good. What is insufficient proves nothing, neither good nor bad."
)
SILENT: Final = (
    "A model that has too little to go by gives no score and says why; what could not be read was"
    " refused."
)


def in_short(material: Material) -> Section:
    """Give the numbers to begin with, and what is to be decided."""
    still_open = [sign for sign in material.signs if sign.is_open]
    alarms = sum(sign.severity == "alarm" for sign in still_open)
    rows = [
        words.cells(("Patients", words.patients(material.work.patients), "")),
        words.cells(("Scores", f"{material.work.scored:,}", "")),
    ]
    for metric, unit in SHORT:
        said = statement(material, metric, unit)
        told = f"{words.value(said)} ({words.interval(said)})"
        shown_as = words.value(said) if words.interval(said) == words.UNKNOWN else told
        rows.append([Cell(words.measure(metric)), Cell(shown_as), words.state(said)])
    counted = f"{alarms} alarm, {len(still_open) - alarms} watch"
    rows.append(words.cells(("Signals open at the end", counted if still_open else "none", "")))
    head = ["Number", "Value", "State"]
    return Section(
        "short", "In short", [BELIEF], [Figure(Table("The period in short", head, rows))]
    )


def next_steps(material: Material) -> Section:
    """Give what is to be decided."""
    found = steps(material)
    text = (
        ["The most pressing first."]
        if found
        else ["No rule of this report asks for a decision. That is no proof that all is well."]
    )
    return Section("decide", "What to decide next", text, steps=found)


def at_work(material: Material) -> Section:
    """Give what the model did."""
    models = [
        words.cells(
            (
                f"{m.name} {m.version}", m.digest[:12], m.policy, m.role,
                shown(m.first), shown(m.last), f"{m.scored:,}",
            )
        )
        for m in material.models
    ]  # fmt: skip
    head = ["Model", "Digest", "Policy", "Role", "First score of", "Last score of", "Scores"]
    abstained = material.work.abstained
    events = [
        words.cells(("scored", f"{material.work.scored:,}")),
        *(words.cells((f"no score: {_plain(cause)}", f"{n:,}")) for cause, n in abstained.items()),
        *(
            words.cells((f"refused: {_plain(reason)}", f"{n:,}"))
            for reason, n in material.work.refused.items()
        ),
    ]
    text = [f"{words.patients(material.work.patients)} patients were watched. {SILENT}"]
    return Section(
        "work",
        "What the model did",
        text,
        [
            Figure(Table("Models at work", head, models)),
            Figure(Table("What became of the events", ["Event", "How many"], events)),
        ],
    )


def _plain(code: str) -> str:
    return code.lower().replace("_", " ") or "unknown"
