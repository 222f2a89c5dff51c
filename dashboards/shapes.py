"""What a board is made of before it is JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

Json = dict[str, Any]

ROW: Final = 24
"""Columns of Grafana's grid."""


class Query(NamedTuple):
    """A question to one of the two sources.

    Attributes:
        text: SQL for the ledger, PromQL for the metrics.
        source: the data source as a panel names it.
        legend: name of the series that PromQL gives; {{label}} is filled in.
    """

    text: str
    source: Json
    legend: str = ""


class Piece(NamedTuple):
    """A panel to be placed on a board.

    Attributes:
        panel: as grafanalib makes it, without place and number.
        width: of 24 columns.
        height: in rows of the grid.
        twin: the same numbers as a table, where the panel is a plot.
    """

    panel: Any
    width: int
    height: int
    twin: Any = None


class Board(NamedTuple):
    """One board.

    Attributes:
        uid: one of `names.BOARDS`.
        area: its tag beside "vigil".
        question: what it answers, in one sentence.
        rows: pieces from left to right, rows from top to bottom.
        variables: what its readers may choose.
        annotations: what is marked on its time axes.
        since: start of its time range unless somebody chooses another.
        refresh: how often it asks again.
    """

    uid: str
    area: str
    question: str
    rows: Sequence[Sequence[Piece]]
    variables: Sequence[Any] = ()
    annotations: Sequence[Mapping[str, Any]] = ()
    since: str = "now-24h"
    refresh: str = "1m"
