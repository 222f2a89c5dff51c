"""Where panels stand: rows of pieces, below them a folded row with the twins of all plots."""

from collections.abc import Iterator, Sequence
from typing import Final

from dashboards.grafana import folded_row
from dashboards.shapes import ROW, Json, Piece

TABLES: Final = "The plots above as tables, for readers who cannot see them"
_TWIN_WIDTH: Final = 12
_TWIN_HEIGHT: Final = 8


def placed(rows: Sequence[Sequence[Piece]]) -> list[Json]:
    """Give every panel its place and its number.

    Args:
        rows: of pieces from left to right; a row is as high as its highest piece.

    Raises:
        ValueError: a row is wider than the grid.
    """
    panels, top = [], 0
    for row in rows:
        panels += list(_in_a_row(row, top))
        top += max(piece.height for piece in row)
    twins = [piece.twin for row in rows for piece in row if piece.twin]
    if twins:
        inside = list(_in_pairs(twins, top + 1))
        panels.append(folded_row(TABLES, inside, {"x": 0, "y": top, "w": ROW, "h": 1}))
    return list(_numbered(panels))


def _in_a_row(row: Sequence[Piece], top: int) -> Iterator[Json]:
    left = 0
    for piece in row:
        if left + piece.width > ROW:
            raise ValueError(f"a row of the board is wider than {ROW}: {piece.panel['title']}")
        place = {"x": left, "y": top, "w": piece.width, "h": piece.height}
        yield piece.panel | {"gridPos": place}
        left += piece.width


def _in_pairs(twins: Sequence[Json], top: int) -> Iterator[Json]:
    for number, twin in enumerate(twins):
        down, right = divmod(number, 2)
        left, y = right * _TWIN_WIDTH, top + down * _TWIN_HEIGHT
        yield twin | {"gridPos": {"x": left, "y": y, "w": _TWIN_WIDTH, "h": _TWIN_HEIGHT}}


def _numbered(panels: Sequence[Json]) -> Iterator[Json]:
    number = 0
    for panel in panels:
        number += 1
        whole = panel | {"id": number}
        if "panels" in panel:
            inside = [each | {"id": number + i} for i, each in enumerate(panel["panels"], 1)]
            whole, number = whole | {"panels": inside}, number + len(inside)
        yield whole
