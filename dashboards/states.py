"""States in words, shapes and colors: a color is never the only thing that tells them apart.

Colors are of Okabe and Ito's palette, which color-blind readers can tell apart
(https://jfly.uni-koeln.de/color/).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from dashboards.shapes import Json

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
VERMILLION: Final = "#D55E00"
GREEN: Final = "#009E73"
SKY: Final = "#56B4E9"
PURPLE: Final = "#CC79A7"
GRAY: Final = "#999999"
PALETTE: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, GRAY)
NO_COLOR: Final = "transparent"


class Look(NamedTuple):
    """How a value is shown; without a color it is never colored."""

    text: str
    color: str = ""


Looks = Mapping[str, Look]

STATES: Final[Looks] = MappingProxyType(
    {
        "ok": Look("✓ ok", BLUE),
        "watch": Look("▲ watch", ORANGE),
        "alarm": Look("■ alarm", VERMILLION),
        "insufficient": Look("— insufficient"),
        "suppressed": Look("░ suppressed, <11"),
    }
)
"""Of measurements; what cannot be judged or shown has no color, green least of all."""
CODES: Final[Looks] = MappingProxyType(
    {
        "1": STATES["ok"],
        "2": STATES["watch"],
        "3": STATES["alarm"],
        "0": STATES["insufficient"],
        "4": STATES["suppressed"],
    }
)
"""The same as numbers, for plots; see `query.CODE`."""
COVERED: Final[Looks] = MappingProxyType(
    {
        "covered": Look("✓ covered", BLUE),
        "quiet": Look("▲ quiet", ORANGE),
        "silent": Look("■ silent", VERMILLION),
    }
)
WORKING: Final[Looks] = MappingProxyType({"1": Look("✓ yes", BLUE), "0": Look("■ NO", VERMILLION)})
HEARD: Final[Looks] = MappingProxyType(
    {"1": Look("✓ heard", BLUE), "0": Look("▲ nothing", ORANGE)}
)
WHOLE: Final[Looks] = MappingProxyType(
    {"whole": Look("✓ whole", BLUE), "broken": Look("■ broken", VERMILLION)}
)
NONE: Final[Looks] = MappingProxyType({"0": Look("✓ none", BLUE)})
"""For counts of what should not be."""


def mappings(looks: Looks, *, empty: str = "") -> list[Json]:
    """Write looks as Grafana's value mappings.

    Args:
        looks: by value.
        empty: what stands in place of null; "" leaves it to Grafana.
    """
    found: list[Json] = []
    if looks:
        found.append({"type": "value", "options": _options(looks)})
    if empty:
        found.append(
            {"type": "special", "options": {"match": "null+nan", "result": {"text": empty}}}
        )
    return found


def _options(looks: Looks) -> Json:
    return {
        value: {"text": look.text, "index": place} | ({"color": look.color} if look.color else {})
        for place, (value, look) in enumerate(looks.items())
    }


def steps(*limits: tuple[float, str]) -> list[Json]:
    """Colors from a limit upwards; below the first there is none."""
    return [
        {"color": NO_COLOR, "value": None},
        *({"color": color, "value": limit} for limit, color in limits),
    ]
