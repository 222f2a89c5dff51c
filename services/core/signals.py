"""Signals: when what the judges state must be looked at, as steps that each happen once.

Per metric, feature and cohort a signal is opened by the first window that is watch or alarm,
changed when its severity changes, and closed by the first window that is ok again. A window that
is insufficient says nothing either way.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

import msgspec

from services.core.events import Evidence, Measurement, Signal, SignalStep, State
from services.core.measures import MEASURES

_MICROSECONDS: Final = 1_000_000


class Topic(NamedTuple):
    """What a signal is about."""

    metric: str
    feature: str
    cohort: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that is open: its name, how bad it is and how bad it has been."""

    topic: Topic
    signal_id: str
    severity: State
    worst: State


def topic_of(statement: Measurement) -> Topic | None:
    """Name what a statement may open a signal about; None: it opens none."""
    measure = MEASURES.get(statement.metric)
    if measure is None or not measure.kind or measure.signal_unit != statement.unit_of_analysis:
        return None
    return Topic(statement.metric, statement.feature, statement.cohort)


def follow(
    statements: Iterable[Measurement], standing: Mapping[Topic, Standing]
) -> tuple[list[Signal], dict[Topic, Standing]]:
    """Give the steps that statements lead to, and the signals that are open after them.

    Args:
        statements: in order of window; the latest revision of each.
        standing: what was open before the first of them.
    """
    steps, after = [], dict(standing)
    for statement in statements:
        topic = topic_of(statement)
        if topic is None or statement.state is State.INSUFFICIENT:
            continue
        before = after.pop(topic, None)
        now = _moved(topic, before, statement)
        if now is not None:
            after[topic] = now
        step = _step(before, now)
        if step is not None:
            steps.append(_signal(step, now or before, statement))
    return steps, after


def signals_of(
    statements: Iterable[Measurement], standing: Mapping[Topic, Standing] | None = None
) -> list[Signal]:
    """Give the steps that the current statements lead to, in order of window."""
    return follow(statements, standing or {})[0]


def unsaid(wanted: Sequence[Signal], said: Sequence[Signal]) -> list[Signal]:
    """Give what must be published so that the last word on each signal is the wanted one.

    A restated window may take back what was said: a signal that should never have been opened is
    closed, one whose severity came out otherwise is changed. No step of a window is said twice;
    where it would have to be, the amendment carries the window after it.

    Args:
        wanted: the steps of the current statements.
        said: the steps that were published, of the same windows, in order.
    """
    known = {_name(signal) for signal in said}
    new = [signal for signal in wanted if _name(signal) not in known]
    known |= {_name(signal) for signal in new}
    last_wanted = {signal.signal_id: signal for signal in wanted}
    last_said = {signal.signal_id: signal for signal in (*said, *new)}
    for signal_id, spoken in last_said.items():
        amend = _amendment(last_wanted.get(signal_id), spoken)
        if amend is not None:
            new.append(_unused(amend, known))
    return new


def _unused(signal: Signal, known: AbstractSet[tuple[str, SignalStep, int]]) -> Signal:
    """Date a step by the first window in which it was not said: it may come and go and come."""
    while _name(signal) in known:
        end = 2 * signal.end - signal.start
        signal = msgspec.structs.replace(signal, start=signal.end, end=end)
    return signal


def _amendment(wanted: Signal | None, said: Signal) -> Signal | None:
    closed = said.step is SignalStep.CLOSED
    if wanted is None or wanted.step is SignalStep.CLOSED:
        return None if closed else msgspec.structs.replace(said, step=SignalStep.CLOSED)
    if not closed and said.severity is wanted.severity:
        return None
    latest = max(wanted, said, key=lambda signal: signal.start)
    return msgspec.structs.replace(
        wanted, step=SignalStep.CHANGED, start=latest.start, end=latest.end
    )


def _name(signal: Signal) -> tuple[str, SignalStep, int]:
    return signal.signal_id, signal.step, signal.start


def _moved(topic: Topic, before: Standing | None, statement: Measurement) -> Standing | None:
    """The signal as it stands after a statement; None: there is none."""
    if statement.state is State.OK:
        return None
    worst = State.ALARM if before and before.worst is State.ALARM else statement.state
    return Standing(
        topic=topic,
        signal_id=before.signal_id if before else _signal_id(topic, statement.start),
        severity=statement.state,
        worst=worst,
    )


def _signal_id(topic: Topic, start: int) -> str:
    return "-".join((*topic, str(start // _MICROSECONDS)))


def _step(before: Standing | None, now: Standing | None) -> SignalStep | None:
    if now is None:
        return None if before is None else SignalStep.CLOSED
    if before is None:
        return SignalStep.OPENED
    return None if now.severity is before.severity else SignalStep.CHANGED


def _signal(step: SignalStep, standing: Standing | None, statement: Measurement) -> Signal:
    measure = MEASURES[statement.metric]
    if standing is None:
        raise ValueError("a step belongs to a signal")
    return Signal(
        signal_id=standing.signal_id,
        step=step,
        kind=measure.kind,
        severity=standing.worst if step is SignalStep.CLOSED else standing.severity,
        metric=statement.metric,
        feature=statement.feature,
        cohort=statement.cohort,
        start=statement.start,
        end=statement.end,
        summary=_summary(step, statement),
        evidence=_evidence(statement),
        runbook=measure.runbook,
    )


def _summary(step: SignalStep, statement: Measurement) -> str:
    what = f"{statement.metric} of {statement.feature}" if statement.feature else statement.metric
    where = "" if statement.cohort == "all" else f" in {statement.cohort}"
    if step is SignalStep.CLOSED:
        return f"{what}{where} is ok again"
    way = f", {statement.direction} than the reference" if statement.direction else ""
    return f"{what}{where}: {statement.state}{way}"


def _evidence(statement: Measurement) -> list[Evidence]:
    whole = statement.denominator
    named = {
        "mean": statement.numerator / whole if statement.numerator is not None and whole else None,
        "value": statement.value,
        "low": statement.low,
        "high": statement.high,
        "threshold": statement.threshold,
        "p_value": statement.p_value,
        "direction": statement.direction or None,
        "patients": statement.patients,
        "hours": statement.hours,
        "reference": statement.reference or None,
        "why": statement.why or None,
    }
    return [
        Evidence(name=name, value=_said(value))
        for name, value in named.items()
        if value is not None
    ]


def _said(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
