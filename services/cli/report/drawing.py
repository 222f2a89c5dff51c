"""The one door to Matplotlib: drawings as SVG, the same bytes for the same numbers.

Text is drawn as outlines of the font that Matplotlib brings along, so that a page looks the same
everywhere. Every color is of Okabe and Ito's palette; none is the only thing that tells apart.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dashboards.states import BLUE, ORANGE, VERMILLION
from services.cli.report.view import Bars, Days, Dots, Drawing, Grid, Mark

WIDTH: Final = 7.2
LABEL: Final = 32
"""Characters of a label; what is longer is cut, the table has it whole."""
LOOK: Final[dict[Any, Any]] = {
    "svg.hashsalt": "vigil",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a dollar in the name of a unit is a dollar
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": False,
}
MARKS: Final = {
    "ok": ("o", BLUE),
    "watch": ("^", ORANGE),
    "alarm": ("s", VERMILLION),
    "insufficient": ("_", "black"),
}


def svg(drawing: Drawing) -> bytes:
    """Draw; a drawing without anything to draw is an empty one, which is for the caller to see."""
    with rc_context(LOOK), warnings.catch_warnings():
        # A letter that the font does not have stands in the table.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH, _height(drawing)), layout="constrained")
        axes = figure.add_subplot()
        _DRAW[type(drawing)](axes, drawing)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def drawable(drawing: Drawing | None) -> bool:
    """Whether there is anything to draw."""
    match drawing:
        case Dots(marks=marks) | Days(marks=marks):
            return any(mark.value is not None for mark in marks)
        case Bars(counts=counts):
            return any(counts)
        case Grid(states=states):
            return any(state in MARKS for row in states for state in row)
        case None:
            return False


def _height(drawing: Drawing) -> float:
    match drawing:
        case Dots(marks=marks):
            return 0.8 + 0.26 * len(marks)
        case Grid(names=names):
            return 0.8 + 0.24 * len(names)
        case _:
            return 2.6


def _dots(axes: Axes, drawing: Dots) -> None:
    _marks(axes.errorbar, drawing.marks, across=True)
    axes.set_yticks(range(len(drawing.marks)), _cut(mark.label for mark in drawing.marks))
    axes.set_ylim(len(drawing.marks) - 0.5, -0.5)
    axes.set_xlabel(drawing.axis)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    if drawing.percent:
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])


def _days(axes: Axes, drawing: Days) -> None:
    _marks(axes.errorbar, drawing.marks, across=False)
    _along(axes, [mark.label for mark in drawing.marks])
    axes.set_ylim(bottom=0)
    axes.set_ylabel(drawing.axis)
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)


def _bars(axes: Axes, drawing: Bars) -> None:
    axes.bar(range(len(drawing.counts)), [count or 0 for count in drawing.counts], color=BLUE)
    for place, count in enumerate(drawing.counts):
        text = "<11" if count is None else str(count)
        axes.annotate(text, (place, count or 0), ha="center", va="bottom")
    _along(axes, drawing.labels)
    axes.set_ylabel(drawing.axis)
    axes.margins(y=0.15)


def _grid(axes: Axes, drawing: Grid) -> None:
    for state, (shape, color) in MARKS.items():
        places = np.argwhere(np.array(drawing.states) == state)
        rows, columns = places.reshape(-1, 2).T
        axes.plot(columns, rows, marker=shape, color=color, markersize=6, linestyle="")
    axes.set_yticks(range(len(drawing.names)), _cut(drawing.names))
    axes.set_ylim(len(drawing.names) - 0.5, -0.5)
    _along(axes, drawing.columns)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)


def _marks(errorbar: Callable[..., Any], marks: Sequence[Mark], *, across: bool) -> None:
    """Draw numbers with their intervals, those without one as dots alone."""
    known = [(place, mark) for place, mark in enumerate(marks) if mark.value is not None]
    armed = [each for each in known if each[1].low is not None and each[1].high is not None]
    arms = np.array([_arms(mark) for _, mark in armed]).reshape(-1, 2).T
    bare = [each for each in known if each not in armed]
    for drawn, lengths in ((armed, arms), (bare, None)):
        places, values = [place for place, _ in drawn], [mark.value for _, mark in drawn]
        at, arm = ((values, places), "xerr") if across else ((places, values), "yerr")
        if drawn:
            errorbar(*at, fmt="o", color=BLUE, markersize=5, capsize=3, **{arm: lengths})


def _arms(mark: Mark) -> tuple[float, float]:
    value, low, high = mark.value or 0.0, mark.low or 0.0, mark.high or 0.0
    return max(0.0, value - low), max(0.0, high - value)


def _along(axes: Axes, labels: Sequence[str]) -> None:
    """Label places from left to right; of many, some."""
    every = max(1, -(-len(labels) // 12))
    places = range(0, len(labels), every)
    axes.set_xticks(places, [_short(labels[place]) for place in places])
    axes.set_xlim(-0.5, len(labels) - 0.5)


def _cut(labels: Any) -> list[str]:
    return [_short(label) for label in labels]


def _short(label: str) -> str:
    return label if len(label) <= LABEL else f"{label[: LABEL - 1]}…"


_DRAW: Final[dict[type, Callable[[Axes, Any], None]]] = {
    Dots: _dots,
    Days: _days,
    Bars: _bars,
    Grid: _grid,
}
