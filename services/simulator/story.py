"""What happens to the demo's ward: a scenario, its size and its hour, all drawn by a seed."""

from typing import Final, NamedTuple

import msgspec
import numpy as np

from services.simulator.scenario import (
    Change,
    Label,
    Missing,
    Offset,
    Scenario,
    Strike,
    load_scenario,
)

TOLD: Final = (
    "fahrenheit-mislabeled",
    "nights-understaffed",
    "pressure-low",
    "respiration-uncharted",
    "thermometers-high",
)
"""The scenarios that a ward of a hundred beds shows within two days, as their files have them."""

_LARGER: Final = (1.0, 1.5)
_MIDDLE: Final = (0.4, 0.5)
_STORY: Final = 0x57_0E  # keeps the draws apart from those of the ward with the same seed


class Story(NamedTuple):
    """A scenario by name, and how it strikes."""

    name: str
    strike: Strike


def draw_story(seed: int, hours: float, scenario: str = "") -> Story:
    """Draw what strikes, how hard (1 to 1.5 times as the file says) and when (about half-way).

    Args:
        seed: the same seed gives the same story.
        hours: event-world length of the demo.
        scenario: name or path of a scenario file; empty: one of TOLD is drawn.

    Raises:
        CommandError: there is no such scenario.
    """
    rng = np.random.default_rng([seed, _STORY])
    drawn = str(rng.choice(TOLD))
    larger, at_h = rng.uniform(*_LARGER), hours * rng.uniform(*_MIDDLE)
    name = scenario or drawn
    found = load_scenario(name)
    harder = Scenario(
        summary=found.summary, changes=[_larger(change, larger) for change in found.changes]
    )
    return Story(name, Strike(harder, float(round(at_h))))


def _larger(change: Change, times: float) -> Change:
    match change:
        case Offset():
            return msgspec.structs.replace(change, add=round(change.add * times, 1))
        case Label():
            return msgspec.structs.replace(change, share=min(1.0, round(change.share * times, 3)))
        case Missing():
            probability = min(1.0, round(change.probability * times, 3))
            return msgspec.structs.replace(change, probability=probability)
        case _:
            return change
