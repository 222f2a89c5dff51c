"""The hours of a stay are a dictionary of scores, and their columns the same in any life."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.core.events import packed
from services.core.labels import Score
from services.core.windows import HOUR
from services.labelling.hours import Columns, Hours
from services.labelling.reading import Cohorts
from services.labelling.stays import Stay

MODELS = [("ab" * 32, "1"), ("cd" * 32, "2")]
COHORTS: list[Cohorts] = [(("unit",), (unit,)) for unit in ("micu", "sicu", "ccu")]

scores = st.builds(
    Score,
    score=st.floats(0, 1, width=32),
    threshold=st.floats(0, 1, width=32),
    model=st.sampled_from(MODELS),
    cohorts=st.sampled_from(COHORTS),
    revision=st.integers(-1, 3),
)
put = st.lists(st.tuples(st.integers(480_000, 480_020).map(HOUR.__mul__), scores), max_size=30)


@given(put)
def test_hours_hold_the_last_score_that_was_put_into_each(told: list[tuple[int, Score]]) -> None:
    hours = Hours()
    for hour, score in told:
        hours.put(hour, score)
    assert dict(hours) == dict(told)
    assert list(hours) == sorted(dict(told))
    assert hours.get(HOUR) is None
    assert hours.told() == [hour for hour in hours if hours.was_told(hour)]
    assert sorted(hours.told() + hours.untold()) == list(hours)


@given(put, put)
def test_a_life_in_between_changes_no_column(
    told: list[tuple[int, Score]], later: list[tuple[int, Score]]
) -> None:
    whole, first = Hours(), Hours()
    for hour, score in told:
        whole.put(hour, score)
        first.put(hour, score)
    second = Hours(first.columns())
    for hour, score in later:
        whole.put(hour, score)
        second.put(hour, score)
    assert second.columns() == whole.columns()


def test_what_is_told_is_counted_from_0() -> None:
    hours = Hours()
    hours.put(HOUR, Score(0.5, 0.5, MODELS[0], COHORTS[0]))
    assert (hours.tell(HOUR), hours.tell(HOUR)) == (0, 1)
    assert hours[HOUR].revision == 1


def test_columns_are_those_that_the_changelog_has_always_held() -> None:
    hours = Hours()
    for hour, place in ((7, 0), (8, 1), (6, 1)):
        hours.put(hour * HOUR, Score(place / 4, 0.5, MODELS[place], COHORTS[place]))
    assert hours.columns() == Columns(
        models=MODELS,
        cohorts=COHORTS[:2],
        hours=packed([6, 7, 8], "<i4"),
        scores=packed([0.25, 0.0, 0.25], "<f4"),
        thresholds=packed([0.5, 0.5, 0.5], "<f4"),
        revisions=packed([-1, -1, -1], "<i4"),
        places=packed([(1, 1), (0, 0), (1, 1)], "<u2"),
    )


def test_a_row_written_by_hand_is_read() -> None:
    columns = (packed([7], "<i4"), packed([0.25], "<f4"), packed([0.5], "<f4"))
    more = (packed([2], "<i4"), packed([(0, 0)], "<u2"))
    row = [7 * HOUR, 8 * HOUR, MODELS[:1], COHORTS[:1], *columns, *more, [], None, b""]
    stay = Stay.unpack(msgspec.msgpack.encode(row))
    assert (stay.began, stay.last) == (7 * HOUR, 8 * HOUR)
    assert dict(stay.scores) == {7 * HOUR: Score(0.25, 0.5, MODELS[0], COHORTS[0], 2)}
    assert stay.pack() == msgspec.msgpack.encode(row)
