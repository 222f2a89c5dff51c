"""What watching found in the demo, held against what the simulator knows to be true."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from services.cli.demo.asking import PAUSE_S, Vigil
from services.cli.demo.play import Play
from services.cli.demo.truth import Ends, Share, true_shares
from services.core.events import Alert, Signal, SignalStep
from services.simulator.messages import instant
from services.simulator.scenario import Label, Missing, Offset
from services.simulator.story import Story

EQUAL_S: Final = 120.0
HOUR_US: Final = 3_600_000_000
PATIENTS: Final = (
    "SELECT start, max(patients) FROM measurements_now"
    " WHERE metric = 'drift' AND cohort = 'all' GROUP BY start ORDER BY start"
)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that was opened.

    Attributes:
        kind: drift, fairness and so on.
        feature: what drifted; the metric where it is no drift.
        cohort: in whom.
        severity: watch or alarm: the highest that it reached.
        after_h: from the strike to the end of the window that told it first, event hours.
        of_the_story: whether it is about what the scenario changed, after it did.
    """

    kind: str
    feature: str
    cohort: str
    severity: str
    after_h: float
    of_the_story: bool


class Watched(msgspec.Struct, kw_only=True):
    """What watching found.

    Attributes:
        scenario: its name, its summary and its hour after the start.
        patients: of each window that was judged, in order.
        signals: opened ones, in order of time.
        raised: alerts that clinicians saw.
        answered: of them, by verdict.
        labels: measurements of the whole days, by unit of analysis and metric.
        truth: sensitivity and PPV of first alerts as they really were.
        windows: closed ones whose metrics were computed once more.
        differences: numbers that differed.
    """

    scenario: dict[str, Any]
    patients: list[int]
    signals: list[Found]
    raised: int
    answered: dict[str, int]
    labels: dict[str, dict[str, Any]]
    truth: dict[str, Share]
    windows: int
    differences: int

    @property
    def equal(self) -> bool:
        """Whether the live metrics are those that the batch computes."""
        return self.windows > 0 and self.differences == 0


def watched(
    vigil: Vigil, play: Play, ends: Ends, *, raised: Sequence[Alert], signals: Sequence[Signal]
) -> Watched:
    """Ask the store, and compare with the ward.

    Args:
        vigil: asks.
        play: of the demo, played to its end.
        ends: the whole days that it saw.
        raised: alerts, as a subscriber heard them.
        signals: the same.
    """
    answering, truth = play.people()
    again = recomputed(vigil)
    period = ("--from", instant(ends.start), "--to", instant(ends.end))
    whole = vigil.ask("recompute", "--whole", *period)
    strike = play.story.strike
    struck_at = int(ends.start.timestamp()) * 1_000_000 + round(strike.at_h * HOUR_US)
    return Watched(
        scenario={
            "name": play.story.name,
            "summary": strike.scenario.summary,
            "at_h": strike.at_h,
        },
        patients=[int(number or 0) for _, number in vigil.ask("sql", PATIENTS)["rows"]],
        signals=found(signals, struck_at, variables_of(play.story)),
        raised=answering.raised,
        answered=dict(sorted(answering.answered.items())),
        labels=by_name(whole["measurements"]),
        truth=true_shares(raised, play.ward.courses, truth, ends=ends),
        windows=int(again["windows_compared"]),
        differences=int(again["differences_total"]),
    )


def recomputed(vigil: Vigil) -> dict[str, Any]:
    """Recompute until the live metrics have caught up with the log, at most EQUAL_S."""
    deadline = time.monotonic() + EQUAL_S
    answer = vigil.ask("recompute")
    while not answer["ok"] and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
        answer = vigil.ask("recompute")
    return answer


def found(signals: Iterable[Signal], struck_at: int, variables: frozenset[str]) -> list[Found]:
    """Tell each signal that was opened, in order of time.

    Args:
        signals: steps, in any order; a step may have been heard twice.
        struck_at: when the scenario struck, µs.
        variables: that it changes.
    """
    steps = sorted(signals, key=lambda signal: (signal.start, signal.step, signal.signal_id))
    highest = {step.signal_id: str(step.severity) for step in steps if step.severity == "watch"}
    highest |= {step.signal_id: str(step.severity) for step in steps if step.severity == "alarm"}
    opened = {step.signal_id: step for step in steps if step.step is SignalStep.OPENED}
    return [
        Found(
            kind=step.kind,
            feature=step.feature or step.metric,
            cohort=step.cohort,
            severity=highest[name],
            after_h=round((step.end - struck_at) / HOUR_US, 1),
            of_the_story=step.feature.split(".")[0] in variables and step.end > struck_at,
        )
        for name, step in opened.items()
    ]


def variables_of(story: Story) -> frozenset[str]:
    """Name the variables that a story changes."""
    named: set[str] = set()
    for change in story.strike.scenario.changes:
        match change:
            case Offset() | Label():
                named.add(change.variable)
            case Missing():
                named.update(change.variables)
            case _:
                pass
    return frozenset(named)


def by_name(measurements: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Order the measurements of everybody by unit of analysis and metric."""
    named: dict[str, dict[str, Any]] = {}
    for each in measurements:
        if each["cohort"] == "all" and not each["feature"]:
            named.setdefault(each["unit_of_analysis"], {})[each["metric"]] = each
    return named
