"""P03: a value that jumped or froze is flagged and scored, whatever the restarts and the cuts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wards import MINUTE, START, Run, log, measured, person, replay

from services.core.events import Cause, Vitals
from services.core.vitals import FROZEN_READINGS, JUMP_WITHIN_S, JUMPS, VITALS

SECOND = 1_000_000
JUMP, FLAT = Cause.SUSPECT_DELTA, Cause.SUSPECT_FLAT


def rates(*told: tuple[float, float], name: str = "HR") -> list[Vitals]:
    """Values of a vital sign, each so many seconds after the start."""
    return [measured("p", START + round(s * SECOND), {name: value}) for s, value in told]


def flags(run: Run) -> list[int]:
    """Bits of each entry: vital signs that jumped, and above them those that froze."""
    found = list[int]()
    for batch in run.batches:
        column = np.frombuffer(batch.suspects, "<u2")
        found += column.tolist() if len(column) else [0] * batch.entries
    return found


def causes(run: Run) -> list[tuple[str, Cause]]:
    return [(entry["disposition"], entry["cause"]) for entry in run.entries]


SCORED, JUMPED = ("SCORED", Cause.NONE), ("SCORED", JUMP)


def test_p03_a_jump_of_60_in_a_second_is_flagged_and_scored() -> None:
    run = replay(rates((0, 80), (1, 140), (2, 141)))
    assert causes(run) == [SCORED, JUMPED, SCORED]
    assert flags(run) == [0, 1, 0]


@pytest.mark.parametrize("name", VITALS)
def test_a_vital_sign_jumps_by_its_own_bound_within_a_minute_and_not_below_or_later(
    name: str,
) -> None:
    low, bound = {"Temp": 36.0}.get(name, 60.0), JUMPS[name]
    below = replay(rates((0, low), (1, low + 0.75 * bound), name=name))
    reached = replay(rates((0, low), (JUMP_WITHIN_S, low + bound), name=name))
    later = replay(rates((0, low), (JUMP_WITHIN_S + 1, low + bound), name=name))
    bit = 1 << VITALS.index(name)
    assert (flags(below), flags(reached), flags(later)) == ([0, 0], [0, bit], [0, 0])


def test_what_may_not_be_used_is_nothing_to_jump_from() -> None:
    absent = measured("p", START + SECOND, {"HR": 200}, flags=1)
    assert flags(replay([*rates((0, 80)), absent, *rates((2, 82))])) == [0, 0, 0]


def test_a_late_value_is_late_and_nothing_more() -> None:
    run = replay(rates((0, 80), (10, 81), (5, 160)))
    assert causes(run)[-1] == ("SCORED", Cause.LATE)
    assert flags(run)[-1] == 0


@pytest.mark.parametrize("step_us", [SECOND, MINUTE])
def test_p03_a_value_frozen_500_times_is_flagged_from_then_on_and_scored(step_us: int) -> None:
    frozen = [
        measured("p", START + n * step_us, {"HR": 70 if n == 0 else 80, "Temp": 36 + n % 7 / 10})
        for n in range(FROZEN_READINGS + 3)
    ]
    run = replay([*frozen, *rates((step_us * 600 / SECOND, 81))])
    wanted = [0] * FROZEN_READINGS + [1 << 8] * 3 + [0]
    assert flags(run) == wanted
    assert causes(run)[FROZEN_READINGS:] == [("SCORED", FLAT)] * 3 + [SCORED]


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(1, FROZEN_READINGS + 20))
def test_a_restart_forgets_no_frozen_value(place: int) -> None:
    events = [measured("p", START + n * MINUTE, {"HR": 80}) for n in range(FROZEN_READINGS + 20)]
    records = log(events)
    before = Run().hand(records[:place])
    after = Run(rows=before.rows).hand(records[place:])
    assert [*flags(before), *flags(after)] == [0] * (FROZEN_READINGS - 1) + [1 << 8] * 21


def test_readings_out_of_order_lead_to_the_same_knowledge_of_what_froze() -> None:
    def at(minute: int, rate: float) -> Vitals:
        return measured("p", START + minute * MINUTE, {"HR": rate}, encounter=person("e"))

    events = [at(n, 80 + (n == 3)) for n in range(FROZEN_READINGS + 20)]
    swapped = [event for pair in zip(events[1::2], events[::2], strict=True) for event in pair]
    last = at(FROZEN_READINGS + 20, 80)
    one, other = replay([*events, last]), replay([*swapped, last])
    assert one.patients == other.patients
    assert flags(one)[-1] == flags(other)[-1] == 1 << 8


def test_a_log_of_which_nothing_is_suspect_carries_no_column() -> None:
    assert [batch.suspects for batch in replay(rates((0, 80), (60, 90))).batches] == [b""]
