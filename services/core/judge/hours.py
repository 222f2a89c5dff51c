"""The judge of patient-hours: drift, subgroups and patient-days of one window."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from services.core.baseline import Baseline
from services.core.events import Measurement, Tally
from services.core.folds.hours import hours_family
from services.core.judge.days import Day, Detect, day_of, patient_days
from services.core.judge.drift import Watched, drift, unfit, unjudged
from services.core.judge.subgroups import subgroups
from services.core.judge.verdict import Earlier, Verdict
from services.core.tallies import (
    HOURS_LAYOUT,
    HourTally,
    PatientDays,
    decode,
    merged,
    without_bins,
)
from services.core.windows import DAY, Window

DAYS: Final = 30
"""How many windows the detector of patient-days looks at, the judged one included."""


class HourMemory(msgspec.Struct, frozen=True, array_like=True):
    """What later windows need to know of a window."""

    watched: list[tuple[str, str]]
    days: list[PatientDays]


class HourJudge:
    """Judges windows of patient-hours; satisfies `Judge`.

    Args:
        baseline_at: gives the baseline in force at a window's start, µs.
        detect: runs a detector over patient-days.
        length: of each window, µs.
        reach: how long after its end a window is restated, µs.
    """

    layout = HOURS_LAYOUT
    remembers = DAYS - 1

    def __init__(
        self,
        baseline_at: Callable[[int], Baseline | None],
        detect: Detect,
        *,
        length: int = DAY,
        reach: int = DAY,
    ) -> None:
        self.family, self.reach = hours_family(length), reach
        self._baseline_at, self._detect = baseline_at, detect

    def check(self, body: bytes) -> None:
        """Raise Refusal where a body is no HourTally."""
        decode(body)

    def judge(
        self, window: Window, tallies: Sequence[Tally], earlier: Sequence[Earlier]
    ) -> Verdict:
        """Judge a window; its memory depends on its own tallies alone."""
        past = [
            (each.end, msgspec.msgpack.decode(each.memory, type=HourMemory))
            for each in earlier
            if each.start >= window.start - (DAYS - 1) * window.length
        ]
        before = {end: memory.watched for end, memory in past}.get(window.start, [])
        whole, moved, watched = self._drift(window, tallies, frozenset(before))
        days: list[Day] = [day_of(memory.days) for _, memory in past]
        burden = patient_days([*days, day_of(whole.days)], window, self._detect)
        memory = HourMemory(sorted(watched), whole.days)
        return Verdict(
            measurements=[*moved, *subgroups(whole, window), burden],
            memory=msgspec.msgpack.encode(memory),
        )

    def _drift(
        self, window: Window, tallies: Sequence[Tally], before: Watched
    ) -> tuple[HourTally, list[Measurement], Watched]:
        baseline = self._baseline_at(window.start)
        bodies = [decode(tally.body) for tally in tallies]
        why = unfit(baseline, window, {tally.baseline for tally in tallies})
        if baseline is None or why:
            whole = merged(map(without_bins, bodies))
            return whole, unjudged(whole, window, why), frozenset()
        whole = merged(bodies)
        return whole, *drift(whole, baseline, window, before)
