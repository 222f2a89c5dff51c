"""What `vigil drift` says to people: states by window, and what a signal rests on."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from services.cli.moment import shown
from services.core.baseline import PRESENCE, FeatureReference
from services.core.events import Measurement
from services.core.stats.nulls import center_of
from services.core.stats.power import patients_needed, power
from services.core.vitals import UNITS
from services.monitoring.findings import Near, Share, Step

COUNTS: Final = (10, 18, 20, 40, 60, 100, 200, 400)
TIMES: Final = (0.5, 1.0, 2.0)
WATCH_P: Final = 0.05
_WORDS: Final = {"ok": ".", "watch": "watch", "alarm": "ALARM", "insufficient": "-"}


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """What a baseline can see of one feature.

    Attributes:
        unit: of everything here.
        mean: of the window, over patients.
        reference_mean: of the baseline.
        change: of the window's mean from where it lies without a change.
        patients: K, one a row.
        changes: sizes, one a column.
        chance: that one window of so many patients shows so large a change.
        patients_for_one_in_two: at which the change is seen in every other window; None: not by
            1,000.
    """

    unit: str
    mean: float
    reference_mean: float
    change: float
    patients: list[int]
    changes: list[float]
    chance: list[list[float]]
    patients_for_one_in_two: int | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known about a signal of drift."""

    signal_id: str
    steps: list[Step]
    statement: Measurement | None
    changes: list[Near]
    mix: list[Share]
    power: Power | None


def power_of(said: Measurement, reference: FeatureReference | None, tests: int) -> Power | None:
    """Say what the baseline can see of a feature; None where it or a value is missing.

    Args:
        said: the statement about the window.
        reference: what it was held against.
        tests: how many share the family's error.
    """
    if reference is None or not reference.nulls or not said.denominator:
        return None
    nulls, p = reference.nulls, WATCH_P / tests
    mean = (said.numerator or 0.0) / said.denominator
    change = mean - reference.mean - center_of(nulls, int(said.denominator))
    changes = [times * change for times in TIMES]
    return Power(
        unit="of the hours" if said.feature.endswith(PRESENCE) else UNITS[said.feature],
        mean=mean,
        reference_mean=reference.mean,
        change=change,
        patients=list(COUNTS),
        changes=changes,
        chance=[
            [power(nulls, patients=count, change=size, p=p) for size in changes]
            for count in COUNTS
        ],
        patients_for_one_in_two=patients_needed(nulls, change=change, p=p),
    )


def states(stated: Sequence[Measurement]) -> list[str]:
    """One line a window and cohort, one column a feature; insufficient is a dash."""
    if not stated:
        return ["no window was judged yet"]
    features = list(dict.fromkeys(each.feature for each in stated))
    rows: dict[tuple[int, str], dict[str, str]] = {}
    for each in stated:
        row = rows.setdefault((each.start, each.cohort), {})
        row[each.feature] = _WORDS[each.state]
    heads = [name.replace(".presence", "?") for name in features]
    lines = [["window from", "cohort", *heads]]
    lines += [
        [shown(start), cohort, *(row.get(name, "") for name in features)]
        for (start, cohort), row in rows.items()
    ]
    return [*_aligned(lines), "name? is whether it was charted; . ok, - not enough to judge"]


def opened(signals: Sequence[Step]) -> list[str]:
    """One line a signal that is open."""
    if not signals:
        return ["no signal is open"]
    rows = [[s.signal_id, s.severity, f"since {shown(s.start)}", s.summary] for s in signals]
    return _aligned([["open signal", "severity", "last step", "what"], *rows])


def told(found: Explanation) -> list[str]:
    """The explanation for people."""
    lines = [f"{s.step:<12}{s.severity:<8}{shown(s.start)}  {s.summary}" for s in found.steps]
    if found.statement is not None:
        lines += ["", *_statement(found.statement, found.power)]
    near = [f"{shown(c.effective_from)}  {c.kind} {c.subject}: {c.reason}" for c in found.changes]
    mixed = [
        f"{s.what} {s.name}: {s.before:.1%} in the days before, {s.now:.1%} in the window"
        for s in found.mix
    ]
    lines += ["", "changes that people made near it:", *(near or ["none"])]
    lines += ["", "changes of the mix:", *(mixed or ["none of note"])]
    return [*lines, "", *_curve(found.power)]


def _statement(said: Measurement, known: Power | None) -> Iterator[str]:
    patients = "fewer than 11" if said.patients is None else str(said.patients)
    yield f"{said.feature} of {said.cohort}, {shown(said.start)} to {shown(said.end)}"
    yield f"  {patients} patients, {said.hours or 0:,} hours: {said.state} {said.why}".rstrip()
    yield (
        f"  PSI {_number(said.value)}, watch from {_number(said.threshold)} on at this K;"
        f" corrected p {_number(said.p_value)}"
    )
    if known:
        yield (
            f"  mean {_number(known.mean)}, of the reference {_number(known.reference_mean)}:"
            f" a change of {known.change:+.3g} {known.unit}"
        )


def _curve(known: Power | None) -> list[str]:
    if known is None:
        return ["power: neither a value nor the baseline behind it is known"]
    rows = [["patients", *(f"{change:+.3g}" for change in known.changes)]]
    rows += [
        [str(count), *(f"{chance:.2f}" for chance in row)]
        for count, row in zip(known.patients, known.chance, strict=True)
    ]
    needed = known.patients_for_one_in_two
    seen = "not by 1,000 patients" if needed is None else f"at {needed} patients"
    return [
        f"chance that a window shows a change of so much ({known.unit}; none is judged below 20):",
        *_aligned(rows),
        f"a change of this size would be seen in 1 window of 2 {seen}",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
