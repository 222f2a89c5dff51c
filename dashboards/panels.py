"""The kinds of panels that boards are made of; each has a description and a unit."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from dashboards import grafana
from dashboards.shapes import Json, Piece, Query
from dashboards.states import PALETTE, Look, mappings, steps
from dashboards.targets import rows, series

_DASHES: Final = ("solid", "dash", "dot")
_PIXELS: Final = 8
TWIN: Final = " — as a table"
"""What the title of a plot's twin ends with."""


class Words(NamedTuple):
    """What a panel is called, and what it shows, from where, and what to make of it."""

    title: str
    description: str


class Column(NamedTuple):
    """How one column of a table is shown.

    Attributes:
        unit: Grafana's id of it.
        looks: by value; a value that has a color colors its cell.
        empty: what stands in place of null.
        decimals: None for as many as it takes.
        link: where a click leads, uid of a board and its variables.
        width: px; 0 as wide as there is room.
    """

    unit: str = "none"
    looks: Mapping[str, Look] = {}
    empty: str = ""
    decimals: int | None = None
    link: str = ""
    width: int = 0


Columns = Mapping[str, Column]


def number(  # noqa: PLR0913 - all of it is what a reader sees
    words: Words,
    query: Query,
    *,
    unit: str = "none",
    looks: Mapping[str, Look] = {},
    limits: Sequence[tuple[float, str]] = (),
    empty: str = "— nothing known",
    since: str = "",
    width: int = 4,
    decimals: int | None = None,
) -> Piece:
    """One value, large; in color only where a look or a limit gives it one.

    Args:
        words: title and description.
        query: gives one row with one value, a number or a text.
        unit: Grafana's id of it.
        looks: by value.
        limits: from which on the value has which color.
        empty: what stands there when nothing is known; never a color.
        since: "24h" when it looks back so far whatever time range is shown.
        width: of 24 columns.
        decimals: None for as many as it takes.
    """
    panel = grafana.stat(
        title=words.title,
        description=words.description,
        dataSource=query.source,
        targets=[rows(query)],
        format=unit,
        mappings=mappings(looks, empty=empty),
        thresholds=steps(*limits),
        colorMode="background",
        color={"mode": "thresholds"},
        graphMode="none",
        reduceCalc="lastNotNull",
        fields="/.*/" if unit == "string" else "",
        noValue=empty,
        decimals=decimals,
        timeFrom=since or None,
    )
    return Piece(panel, width, 4)


def table(
    words: Words,
    query: Query,
    columns: Columns,
    *,
    since: str = "",
    width: int = 24,
    height: int = 8,
) -> Piece:
    """A table; `columns` says how each is shown."""
    panel = _table(words, [rows(query)], columns, "none") | ({"timeFrom": since} if since else {})
    return Piece(panel, width, height)


def lines(  # noqa: PLR0913 - all of it is what a reader sees
    words: Words,
    queries: Sequence[Query],
    names: Sequence[str],
    *,
    unit: str = "none",
    bars: bool = False,
    twin: tuple[Query, Columns] | None = None,
    width: int = 12,
    height: int = 8,
) -> Piece:
    """Lines over time, whose names are known: each has a color and a dash of its own.

    Args:
        words: title and description.
        queries: first column the time, ascending.
        names: of the series, in order.
        unit: Grafana's id of it.
        bars: stacked bars in place of lines.
        twin: what the table beside it asks, and its columns; the same unless told otherwise.
        width: of 24 columns.
        height: of the grid's rows.
    """
    panel = grafana.time_series(
        title=words.title,
        description=words.description,
        dataSource=queries[0].source,
        targets=[series(query, chr(ord("A") + i)) for i, query in enumerate(queries)],
        unit=unit,
        drawStyle="bars" if bars else "line",
        fillOpacity=60 if bars else 0,
        lineWidth=1 if bars else 2,
        stacking={"mode": "normal" if bars else "none", "group": "A"},
        showPoints="auto",
        thresholds=steps(),
        overrides=[_drawn(name, i) for i, name in enumerate(names)],
        tooltipMode="multi",
        extraJson={"options": {"legend": {"showLegend": True}}},
    )
    return Piece(panel, width, height, _twin(words, queries, unit, twin))


def states(  # noqa: PLR0913 - all of it is what a reader sees
    words: Words,
    query: Query,
    looks: Mapping[str, Look],
    *,
    name: str = "",
    twin: tuple[Query, Columns] | None = None,
    since: str = "",
    width: int = 24,
    height: int = 8,
) -> Piece:
    """Bands of states over time, one for each series, each with its word in it.

    Args:
        words: title and description.
        query: time, label, code of the state.
        looks: by code.
        name: label by which a series is called.
        twin: what the table beside it asks, and its columns; the same unless told otherwise.
        since: "24h" when it looks back so far whatever time range is shown.
        width: of 24 columns.
        height: of the grid's rows.
    """
    shown = {"displayName": f"${{__field.labels.{name}}}"} if name else {}
    panel = grafana.state_timeline(
        title=words.title,
        description=words.description,
        dataSource=query.source,
        targets=[series(query)],
        mappings=mappings(looks),
        thresholds=steps(),
        fillOpacity=80,
        showValue="auto",
        legendDisplayMode="list",
        timeFrom=since or None,
        extraJson={
            "fieldConfig": {"defaults": {"unit": "none", **shown}},
            "options": {"legend": {"showLegend": True}},
        },
    )
    told = twin or (query, {"state": Column(looks=looks), "Value": Column(looks=looks)})
    return Piece(panel, width, height, _twin(words, [query], "none", told, since=since))


def bars(words: Words, query: Query, *, unit: str = "none", width: int = 12) -> Piece:
    """Bars by name, longest first: of one color, for their names tell them apart."""
    panel = grafana.bar_chart(
        title=words.title,
        description=words.description,
        dataSource=query.source,
        targets=[rows(query)],
        orientation="horizontal",
        showLegend=False,
        colorMode="fixed",
        fixedColor=PALETTE[0],
        thresholdSteps=steps(),
        showValue="always",
        extraJson={"fieldConfig": {"defaults": {"unit": unit}}},
    )
    return Piece(panel, width, 8, _twin(words, [query], unit, None))


def _twin(
    words: Words,
    queries: Sequence[Query],
    unit: str,
    told: tuple[Query, Columns] | None,
    *,
    since: str = "",
) -> Json:
    """The same numbers for readers who cannot see the plot."""
    asked = [told[0]] if told else list(queries)
    named = Words(words.title + TWIN, f"The numbers of “{words.title}”. {words.description}")
    targets = [rows(query, chr(ord("A") + i), over_time=True) for i, query in enumerate(asked)]
    made = _table(named, targets, told[1] if told else {}, unit)
    if len(asked) > 1:
        made["transformations"] = [{"id": "merge", "options": {}}]
    return made | ({"timeFrom": since} if since else {})


def _table(words: Words, targets: list[Json], columns: Columns, unit: str) -> Json:
    return grafana.table(
        title=words.title,
        description=words.description,
        dataSource=targets[0]["datasource"],
        targets=targets,
        unit=unit,
        thresholds=steps(),
        overrides=[_column(name, column) for name, column in columns.items()],
        extraJson={
            "fieldConfig": {"defaults": {"color": {"mode": "thresholds"}, "noValue": "—"}},
            "options": {"cellHeight": "sm"},
        },
    )


def _column(name: str, column: Column) -> Json:
    properties: list[tuple[str, object]] = [("unit", column.unit)]
    if column.looks or column.empty:
        properties.append(("mappings", mappings(column.looks, empty=column.empty)))
    if column.looks:
        properties.append(("custom.cellOptions", {"type": "color-background", "mode": "basic"}))
    if column.decimals is not None:
        properties.append(("decimals", column.decimals))
    if column.link:
        properties.append(("links", [{"title": "Look closer", "url": column.link}]))
    if column.width:
        properties.append(("custom.width", column.width))
    return _override(name, properties)


def _drawn(name: str, place: int) -> Json:
    """A color of its own for each of seven; from then on another dash, too."""
    dash = _DASHES[place // len(PALETTE) % len(_DASHES)]
    style = {"fill": dash} | ({"dash": [_PIXELS, _PIXELS]} if dash == "dash" else {})
    color = {"mode": "fixed", "fixedColor": PALETTE[place % len(PALETTE)]}
    return _override(name, [("color", color), ("custom.lineStyle", style)])


def _override(name: str, properties: Sequence[tuple[str, object]]) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties],
    }
