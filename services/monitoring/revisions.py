"""Revisions: what is stated of a window now, numbered after what was stated before."""

from collections.abc import Sequence
from typing import Final

import msgspec

from services.core.events import Measurement, State

GONE: Final = "gone"
"""Why a measurement is restated without a value: its cohort is no longer in the window."""


def revised(
    before: Sequence[Measurement], now: Sequence[Measurement]
) -> tuple[list[Measurement], list[Measurement]]:
    """Number what is stated now after what was; give all of it, and what differs."""
    known = {_key(each): each for each in before}
    stated, new = [], []
    for each in (*now, *_gone(before, now)):
        old = known.get(_key(each))
        same = old is not None and msgspec.structs.replace(each, revision=old.revision) == old
        revision = 0 if old is None else old.revision + (not same)
        stated.append(msgspec.structs.replace(each, revision=revision))
        if not same:
            new.append(stated[-1])
    return stated, new


def _gone(before: Sequence[Measurement], now: Sequence[Measurement]) -> list[Measurement]:
    """Restate what is no longer there: nothing is known of it now."""
    present = {_key(each) for each in now}
    return [
        Measurement(
            metric=each.metric,
            feature=each.feature,
            cohort=each.cohort,
            unit_of_analysis=each.unit_of_analysis,
            start=each.start,
            end=each.end,
            revision=each.revision,
            value=None,
            patients=None,
            state=State.INSUFFICIENT,
            why=GONE,
        )
        for each in before
        if _key(each) not in present
    ]


def _key(measurement: Measurement) -> tuple[str, str, str, str]:
    m = measurement
    return m.metric, m.feature, m.cohort, m.unit_of_analysis
