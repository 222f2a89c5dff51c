from hypothesis import given
from hypothesis import strategies as st

from services.simulator.scenario import Missing, Offset, load_scenario, names
from services.simulator.story import TOLD, draw_story


def test_every_scenario_that_can_be_drawn_has_a_file_and_there_are_five_or_more() -> None:
    assert set(TOLD) <= set(names())
    assert len(TOLD) >= 5


@given(seed=st.integers(0, 2**32), hours=st.floats(24, 2000))
def test_a_story_is_a_function_of_its_seed_and_strikes_about_half_way(
    seed: int, hours: float
) -> None:
    story = draw_story(seed, hours)
    assert story == draw_story(seed, hours)
    assert 0.4 * hours - 1 <= story.strike.at_h <= 0.5 * hours + 1


@given(seed=st.integers(0, 2**32))
def test_nothing_strikes_more_weakly_than_its_file_says(seed: int) -> None:
    story = draw_story(seed, 180)
    for change, written in zip(
        story.strike.scenario.changes, load_scenario(story.name).changes, strict=True
    ):
        if isinstance(change, Offset) and isinstance(written, Offset):
            assert abs(change.add) >= abs(written.add)
            assert abs(change.add) <= 1.5 * abs(written.add) + 0.05
        if isinstance(change, Missing) and isinstance(written, Missing):
            assert written.probability <= change.probability <= 1


def test_seeds_draw_different_scenarios_and_a_named_one_is_taken() -> None:
    assert {draw_story(seed, 180).name for seed in range(60)} == set(TOLD)
    assert draw_story(1, 180, "pressure-low").name == "pressure-low"
