"""How fast a machine was is told by its slowest stretch, not by a moment."""

import statistics
import time

from hypothesis import given
from hypothesis import strategies as st
from pace import EVERY_S, Pace, Sample, slowest

TOOK = st.lists(st.floats(0.0001, 0.01), min_size=1, max_size=80)


def seen(took: list[float]) -> list[Sample]:
    return [(EVERY_S * n, each) for n, each in enumerate(took)]


@given(TOOK)
def test_the_slowest_stretch_is_no_faster_than_all_and_no_slower_than_any(
    took: list[float],
) -> None:
    assert min(took) <= slowest(seen(took), 5.0) <= max(took)
    assert slowest(seen(took), 1e9) == statistics.median(took)


@given(st.integers(0, 40))
def test_ten_slow_seconds_are_found_wherever_they_are(at: int) -> None:
    took = [0.4] * 60
    took[at : at + 20] = [0.8] * 20
    assert slowest(seen(took), 10.0) == 0.8


def test_one_slow_moment_is_no_stretch() -> None:
    took = [0.4] * 60
    took[30] = 9.0
    assert slowest(seen(took), 10.0) == 0.4


def test_pace_tells_what_it_saw_in_the_time_asked_for() -> None:
    with Pace() as pace:
        began, deadline = time.monotonic(), time.monotonic() + 60
        while not (found := pace.between(began, time.monotonic())) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert 0 < found["median"] <= found["slowest_10s"] < 1000
    assert pace.between(0.0, 1.0) == {}
