"""Notices of a source become signals: one is open per source and matter, however often it comes.

What happens (a conflict, a merge) is over when the source's own time has gone on for QUIET without
another; what lasts (a gap, a silence) when it is told to stand no more. No clock but that of the
source decides, so the same notices give the same signals.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from services.core.errors import Reason, Refusal
from services.core.events import (
    MICROSECONDS_PER_HOUR,
    Evidence,
    Notice,
    Signal,
    SignalStep,
    State,
)

TICK: Final = "tick"
"""The kind of a notice that tells a source's time and nothing else."""
QUIET: Final = 24 * MICROSECONDS_PER_HOUR
"""So long without another, and what happened is over, µs of the source's time."""
_SECOND: Final = 1_000_000


class Matter(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of notice is about.

    Attributes:
        meaning: one sentence.
        kind: of its signals.
        severity: of its signals; it does not change.
        lasts: whether a notice tells how many stand so now, and not that one more happened.
        runbook: where the remedy stands, under docs/runbooks.
    """

    meaning: str
    kind: str
    severity: State
    lasts: bool
    runbook: str


VERSION_CONFLICT: Final = "version_conflict"
PATIENT_MERGE: Final = "patient_merge"
SUBSCRIPTION_GAP: Final = "subscription_gap"
SUBSCRIPTION_SILENT: Final = "subscription_silent"

MATTERS: Final[Mapping[str, Matter]] = MappingProxyType(
    {
        VERSION_CONFLICT: Matter(
            meaning="One version of a measurement came with two values; the first stands.",
            kind="integrity",
            severity=State.WATCH,
            lasts=False,
            runbook="VigilVersionConflict",
        ),
        PATIENT_MERGE: Matter(
            meaning="Two records of patients were merged at the source, and here they were not.",
            kind="integrity",
            severity=State.WATCH,
            lasts=False,
            runbook="VigilPatientMerge",
        ),
        SUBSCRIPTION_GAP: Matter(
            meaning="FHIR Subscriptions announced events that did not come.",
            kind="integrity",
            severity=State.ALARM,
            lasts=True,
            runbook="VigilSubscriptionGap",
        ),
        SUBSCRIPTION_SILENT: Matter(
            meaning="FHIR Subscriptions gave no sign of life for two heartbeats.",
            kind="silence",
            severity=State.ALARM,
            lasts=True,
            runbook="VigilSubscriptionGap",
        ),
    }
)
"""By kind of notice, which is the metric of its signals too."""


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one matter of one source.

    Attributes:
        second: since the epoch: in the name of the signal that was opened last.
        opened_at: µs.
        last_at: of the latest notice, µs.
        count: notices of what happened since then; of what lasts the most that stood.
        is_open: whether the signal stands.
    """

    second: int
    opened_at: int
    last_at: int
    count: int
    is_open: bool


class Followed(NamedTuple):
    """What stands of a source after a notice, by matter, and the steps that the notice led to."""

    standing: Mapping[str, Standing]
    steps: list[Signal]


def follow(notice: Notice, standing: Mapping[str, Standing]) -> Followed:
    """Take one notice into account.

    Args:
        notice: in the order in which those of its source were written.
        standing: what stood of the source before.

    Raises:
        Refusal: nobody knows its kind (AVRO_SYNTAX).
    """
    if notice.kind == TICK:
        return _pass(notice, standing)
    matter = MATTERS.get(notice.kind)
    if matter is None:
        raise Refusal(Reason.AVRO_SYNTAX, "kind")
    before = standing.get(notice.kind)
    now = _lasting(notice, before) if matter.lasts else _happened(notice, before)
    if now == before or now is None:
        return Followed(standing, [])
    was_open = before is not None and before.is_open
    steps = [] if now.is_open == was_open else [_signal(notice.kind, notice, now)]
    return Followed({**standing, notice.kind: now}, steps)


def _pass(notice: Notice, standing: Mapping[str, Standing]) -> Followed:
    """Let a source's time pass: close what did not happen any more for QUIET."""
    over = {
        kind: msgspec.structs.replace(known, is_open=False)
        for kind, known in standing.items()
        if known.is_open and not MATTERS[kind].lasts and notice.at - known.last_at >= QUIET
    }
    steps = [_signal(kind, notice, known) for kind, known in over.items()]
    return Followed({**standing, **over} if over else standing, steps)


def _happened(notice: Notice, before: Standing | None) -> Standing:
    if before is None or not before.is_open:
        return _opened(notice, before)
    return msgspec.structs.replace(
        before, last_at=max(before.last_at, notice.at), count=before.count + notice.count
    )


def _lasting(notice: Notice, before: Standing | None) -> Standing | None:
    is_open = before is not None and before.is_open
    if not notice.count:
        closed = before and msgspec.structs.replace(before, last_at=notice.at, is_open=False)
        return closed if is_open else before
    if before is None or not is_open:
        return _opened(notice, before)
    return msgspec.structs.replace(before, count=max(before.count, notice.count))


def _opened(notice: Notice, before: Standing | None) -> Standing:
    # The name of a signal is its own for good, also where a source is told of twice in a second.
    second = notice.at // _SECOND
    if before is not None:
        second = max(second, before.second + 1)
    return Standing(second, notice.at, notice.at, notice.count, is_open=True)


def _signal(kind: str, notice: Notice, now: Standing) -> Signal:
    """Tell a step; it names the source and counts, never a patient or a value."""
    matter, cohort = MATTERS[kind], f"source={notice.source}"
    said = f": {matter.severity}" if now.is_open else " is ok again"
    start = notice.at
    return Signal(
        signal_id=f"{kind}--{cohort}-{now.second}",
        step=SignalStep.OPENED if now.is_open else SignalStep.CLOSED,
        kind=matter.kind,
        severity=matter.severity,
        metric=kind,
        cohort=cohort,
        start=start,
        end=start + 1,
        summary=f"{kind} in {cohort}{said}",
        evidence=[Evidence(name="count", value=str(now.count))],
        runbook=matter.runbook,
    )
