"""The shapes of a page: sections of tables, some with a drawing of the same numbers."""

from collections.abc import Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    """A cell; `state` gives it a mark: ok, watch, alarm, and nothing for all else."""

    text: str
    state: str = ""


class Table(NamedTuple):
    """Rows under a head; the first cell of each row names it."""

    caption: str
    head: list[str]
    rows: list[list[Cell]]
    note: str = ""


class Mark(NamedTuple):
    """One number with its interval; None where it is not drawn: not shown, or not to be judged."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None


class Dots(NamedTuple):
    """Numbers with their intervals, one below the other."""

    marks: list[Mark]
    axis: str
    percent: bool = False


class Days(NamedTuple):
    """One number by day with its interval, left to right."""

    marks: list[Mark]
    axis: str


class Bars(NamedTuple):
    """Counts; None where too few to be shown."""

    labels: list[str]
    counts: list[int | None]
    axis: str


class Grid(NamedTuple):
    """States, one row a name, one column a window."""

    names: list[str]
    columns: list[str]
    states: list[list[str]]


Drawing = Dots | Days | Bars | Grid


class Figure(NamedTuple):
    """A table, and where it helps a drawing of it with what it shows in words."""

    table: Table
    drawing: Drawing | None = None
    alt: str = ""


class Step(NamedTuple):
    """Something to decide: what, because of what, who can, and where the way stands."""

    what: str
    because: str
    who: str
    runbook: str = ""


class Section(NamedTuple):
    """A part of the page."""

    name: str
    title: str
    text: list[str]
    figures: Sequence[Figure] = ()
    steps: Sequence[Step] = ()


class Page(NamedTuple):
    """All of it."""

    title: str
    period: str
    sections: list[Section]
