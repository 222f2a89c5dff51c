"""From boards to JSON files, always the same bytes; and what differs from files that are there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dashboards import grafana
from dashboards.boards import (
    alerts_and_answers,
    ledger,
    model_health,
    pipeline,
    subgroups,
    ward_now,
)
from dashboards.layout import placed
from dashboards.names import BOARDS
from dashboards.shapes import Board, Json
from dashboards.variables import sources

FOLDER: Final = Path(__file__).parent
"""Where the files stand that are committed, and that provisioning reads."""
_MAKERS: Final = (ward_now, model_health, subgroups, alerts_and_answers, pipeline, ledger)


def files() -> dict[str, bytes]:
    """Make every board's file, by its name."""
    boards = [maker.board() for maker in _MAKERS]
    return {f"{board.uid}.json": _bytes(as_json(board)) for board in boards}


def differing(folder: Path) -> Iterator[tuple[str, str]]:
    """Name the files of a folder that are not as the boards say: to create, change, remove."""
    wanted = files()
    for name, content in wanted.items():
        path = folder / name
        if not path.exists():
            yield name, "create"
        elif path.read_bytes() != content:
            yield name, "change"
    for path in sorted(folder.glob("vigil-*.json")):
        if path.name not in wanted:
            yield path.name, "remove"


def write(folder: Path) -> None:
    """Bring a folder to what the boards say.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = files()
    for name, what in list(differing(folder)):
        if what == "remove":
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(wanted[name])


def as_json(board: Board) -> Json:
    """Write one board as Grafana reads it."""
    return grafana.dashboard(
        uid=board.uid,
        title=BOARDS[board.uid],
        description=board.question,
        tags=["vigil", board.area],
        links=[grafana.link(title, uid) for uid, title in BOARDS.items() if uid != board.uid],
        variables=[*sources(), *board.variables],
        annotations=list(board.annotations),
        panels=placed(board.rows),
        since=board.since,
        refresh=board.refresh,
        version=1,
    )


def _bytes(board: Json) -> bytes:
    return (json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
