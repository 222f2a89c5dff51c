"""Windows tumble; a calendar opens, closes, restates and forgets them by the watermark alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.folds.calendar import MOST_AT_ONCE, Calendar
from services.core.windows import DAY, HOUR, MONDAY, WEEK, Window, window_of, windows_between

MOMENTS = st.integers(-(10**15), 10**16)
LENGTHS = st.integers(1, 200).map(lambda hours: hours * HOUR)


@settings(deadline=None)
@given(MOMENTS, LENGTHS, MOMENTS)
def test_each_moment_lies_in_one_window(at: int, length: int, origin: int) -> None:
    window = window_of(at, length, origin)
    assert window.start <= at < window.end
    assert window.length == length
    assert (window.start - origin) % length == 0
    assert window.following.previous == window


def test_days_begin_at_midnight_and_weeks_on_monday() -> None:
    monday_noon = 1_767_614_400_000_000  # 2026-01-05T12:00:00Z
    assert window_of(monday_noon, DAY).start == monday_noon - 12 * HOUR
    assert window_of(monday_noon + 6 * DAY, WEEK, MONDAY).start == monday_noon - 12 * HOUR


@settings(deadline=None)
@given(MOMENTS, st.integers(0, 50), LENGTHS)
def test_windows_between_leave_no_gap(first: int, many: int, length: int) -> None:
    found = list(windows_between(first, first + many * length + length // 2, length))
    assert [w.start for w in found] == [first + i * length for i in range(many)]


def walked(watermarks: list[int], reach: int = DAY) -> tuple[Calendar, list[list[Window]]]:
    calendar = Calendar(DAY, reach)
    due = []
    for offset, watermark in enumerate(watermarks):
        calendar.advance(watermark, offset)
        due.append(calendar.due())
    return calendar, due


@settings(deadline=None)
@given(st.lists(st.integers(0, 30 * 24), min_size=1, max_size=40))
def test_every_window_the_watermark_passes_closes_once_and_in_order(hours: list[int]) -> None:
    calendar, due = walked([h * HOUR for h in hours])
    closed = [window.start for windows in due for window in windows]
    first, last = hours[0] // 24, max(hours) // 24
    assert closed == [day * DAY for day in range(first, last)]
    assert calendar.watermark == max(hours) * HOUR


def test_a_changed_closed_window_and_the_next_are_due_when_another_hour_begins() -> None:
    calendar, _ = walked([0, DAY, 2 * DAY])
    calendar.changed(DAY)
    calendar.advance(2 * DAY + HOUR - 1, 3)
    assert calendar.due() == []
    calendar.advance(2 * DAY + HOUR, 4)
    assert [window.start for window in calendar.due()] == [DAY]
    calendar.changed(0)
    calendar.advance(2 * DAY + 2 * HOUR, 5)
    assert [window.start for window in calendar.due()] == [0, DAY]
    calendar.advance(2 * DAY + 3 * HOUR, 6)
    assert calendar.due() == []


def test_a_flush_gives_what_changed_without_waiting_for_the_hour() -> None:
    calendar, _ = walked([0, DAY])
    calendar.changed(0)
    calendar.changed(DAY)
    assert [window.start for window in calendar.due(final=True)] == [0]
    assert calendar.due(final=True) == []


@pytest.mark.parametrize(
    ("at", "counts"),
    [(-1, False), (DAY, False), (3 * DAY - 1, False), (3 * DAY, True), (9 * DAY, True)],
)
def test_a_window_takes_events_until_its_reach_is_over(at: int, *, counts: bool) -> None:
    calendar, _ = walked([DAY, 4 * DAY])
    assert (calendar.start(at) is not None) is counts


def test_windows_before_the_first_watermark_are_dropped_when_it_comes() -> None:
    calendar = Calendar(DAY, DAY)
    assert calendar.start(0) == 0
    calendar.changed(0)
    calendar.advance(None, 0)
    calendar.advance(DAY + HOUR, 1)
    assert calendar.start(0) is None
    assert not calendar.held(0)
    assert calendar.due() == []


def test_a_window_is_held_while_the_following_one_is_restated() -> None:
    calendar, _ = walked([0, 3 * DAY - 1])
    assert calendar.start(0) is None
    assert calendar.held(0)
    calendar.advance(3 * DAY, 2)
    assert not calendar.held(0)
    assert calendar.held(DAY)


def test_a_leap_of_years_closes_the_latest_windows_only() -> None:
    _, due = walked([0, 4000 * DAY])
    assert len(due[1]) == MOST_AT_ONCE
    assert due[1][-1].end == 4000 * DAY


@settings(deadline=None)
@given(st.lists(st.integers(0, 30 * 24), min_size=2, max_size=40), st.data())
def test_a_restored_calendar_gives_what_an_undisturbed_one_gives_and_old_windows_once_more(
    hours: list[int], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(hours) - 1))
    calendar, due = walked([h * HOUR for h in hours[:cut]])
    restored = Calendar(DAY, DAY)
    restored.load(calendar.row())
    for offset, hour in enumerate(hours[cut:], cut):
        for each in (calendar, restored):
            each.advance(hour * HOUR, offset)
        plain, again = calendar.due(), restored.due()
        told = {window for windows in due for window in windows}
        assert [window for window in again if window not in told] == plain
        due.append(plain)
