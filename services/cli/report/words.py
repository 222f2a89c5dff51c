"""Numbers and states in the words that the boards use, too."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from dashboards.states import STATES
from dashboards.words import ANSWERS, DIMENSIONS, MATTERS, MEASURES, WHY
from services.cli.report.view import Cell
from services.core.baseline import EVERYBODY, PRESENCE
from services.core.events import Measurement, State
from services.core.stats.sketches import SMALLEST_CELL

FEW: Final = f"<{SMALLEST_CELL}"
NOT_SHOWN: Final = "not shown"
UNKNOWN: Final = "—"
GROUPED_BY: Final = DIMENSIONS
_PLAIN: Final = {
    "alerts_per_100_patient_days": "{:.1f}",
    "lead_time_h": "{:.1f} h",
    "calibration": "{:.2f}",
    "calibration_difference": "{:+.2f}",
    "drift": "{:.3f}",
}
POINTS: Final = " points"
_DIGEST: Final = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")
_FRACTION: Final = re.compile(r"-?\d+\.\d+(e-?\d+)?|-?\d+e-?\d+")


def measure(metric: str) -> str:
    """Name a metric; one that is not known by its own name."""
    return MEASURES.get(metric) or MATTERS.get(metric, metric)


def about(metric: str, feature: str) -> str:
    """Name what a signal is about.

    >>> about("drift", "HR"), about("drift", "HR.presence"), about("ppv", "")
    ('HR', 'HR, how often measured', 'PPV')
    """
    if feature.endswith(PRESENCE):
        return f"{feature.removesuffix(PRESENCE)}, how often measured"
    return feature or measure(metric)


def group(cohort: str) -> str:
    """Name a cohort for people.

    >>> group("all"), group("unit=MICU")
    ('everybody', 'MICU')
    """
    return "everybody" if cohort == EVERYBODY else cohort.partition("=")[2] or cohort


def fact(name: str, value: str) -> str:
    """Write a fact behind a signal, numbers to three places, digests in short.

    >>> fact("p_value", "0.000999969"), fact("patients", "1200"), fact("why", "twice")
    ('p value 0.001', 'patients 1200', 'in two windows running')
    """
    if name == "why":
        return because(value)
    told = f"{float(value):.3g}" if _FRACTION.fullmatch(value) else _DIGEST.sub(r"\1", value)
    return f"{name.replace('_', ' ')} {told}"


def because(why: str) -> str:
    """Say why a number cannot be judged."""
    return WHY.get(why, why)


def answer(reason: str) -> str:
    """Say why an alert was dismissed."""
    return ANSWERS.get(reason, reason) or "no reason given"


def number(metric: str, value: float | None) -> str:
    """Write a value in its metric's own way."""
    if value is None:
        return UNKNOWN
    if metric in _PLAIN:
        return _PLAIN[metric].format(value)
    return f"{100 * value:+.1f}{POINTS}" if metric.endswith("_difference") else f"{value:.1%}"


def value(said: Measurement | None) -> str:
    """Write the value of a statement, or that it is not shown."""
    if said is None:
        return UNKNOWN
    return NOT_SHOWN if said.why == "suppressed" else number(said.metric, said.value)


def interval(said: Measurement | None) -> str:
    """Write the interval of a statement."""
    if said is None or said.low is None or said.high is None:
        return UNKNOWN
    low, high = number(said.metric, said.low), number(said.metric, said.high)
    return f"{low.removesuffix(POINTS)} to {high}"


def patients(count: int | None) -> str:
    """Write how many people; fewer than 11 are never told apart.

    >>> patients(None), patients(10), patients(0), patients(1200)
    ('<11', '<11', '0', '1,200')
    """
    return FEW if count is None or 0 < count < SMALLEST_CELL else f"{count:,}"


def shown(counts: Mapping[str, int]) -> dict[str, int | None]:
    """Hide what is too small, and with it the next smallest, which subtraction would reveal.

    >>> shown({"a": 40, "b": 12, "c": 3, "d": 0})
    {'a': 40, 'b': None, 'c': None, 'd': 0}
    """
    ordered = sorted((count, name) for name, count in counts.items() if count)
    small = sum(count < SMALLEST_CELL for count, _ in ordered)
    gone = {name for _, name in ordered[: small + 1 if small else 0]}
    return {name: None if name in gone else count for name, count in counts.items()}


def state(said: Measurement | None) -> Cell:
    """Write a state as its word; one that is insufficient, or hidden, has no mark."""
    if said is None:
        return Cell(STATES["insufficient"].text)
    if said.state is State.INSUFFICIENT:
        hidden = said.why == "suppressed"
        return Cell(STATES["suppressed" if hidden else "insufficient"].text)
    return severity(said.state)


def estimate(said: Measurement | None) -> Cell:
    """Write a number with its interval and its state."""
    told, known = state(said), value(said)
    if known in (UNKNOWN, NOT_SHOWN):
        return told
    within = "" if interval(said) == UNKNOWN else f" ({interval(said)})"
    return Cell(f"{known}{within} {told.text}", told.state)


def severity(name: str) -> Cell:
    """Write a state that was judged."""
    return Cell(STATES[name].text, name)


def judged(said: Measurement | None) -> Measurement | None:
    """Give a statement that can be drawn: of which the evidence is there."""
    return said if said and said.state is not State.INSUFFICIENT else None


def cells(texts: Iterable[str]) -> list[Cell]:
    """Make a row of plain text."""
    return [Cell(text) for text in texts]
