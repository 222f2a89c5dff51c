"""The committed boards, and their queries with everything filled in as Grafana does.

Macros as the ClickHouse plugin defines them, variables as Grafana writes its formats.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import override

Json = dict[str, Any]

FOLDER = Path(__file__).parents[1] / "dashboards"
LEDGER = "grafana-clickhouse-datasource"
_POINTS = 100
_SPANS = {"h": 3600, "d": 86400}


class Asked(NamedTuple):
    """One query of a board: of a panel, a variable or an annotation."""

    board: str
    title: str
    kind: str
    text: str
    panel: Json
    target: Json

    @override
    def __str__(self) -> str:
        return f"{self.board}: {self.title}"


class Span(NamedTuple):
    """The time that is shown, s since the epoch."""

    begin: int
    end: int


@cache
def boards() -> dict[str, Json]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: Json) -> Iterator[Json]:
    """Every panel that shows something, those of folded rows too."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def queries() -> list[Asked]:
    found = []
    for uid, board in boards().items():
        for panel in panels(board):
            for target in panel["targets"]:
                kind = target["datasource"]["type"]
                text = target.get("rawSql") or target["expr"]
                found.append(Asked(uid, panel["title"], kind, text, panel, target))
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                name = f"variable {variable['name']}"
                found.append(Asked(uid, name, LEDGER, variable["query"], {}, {}))
        for mark in board["annotations"]["list"]:
            name = f"annotation {mark['name']}"
            found.append(Asked(uid, name, LEDGER, mark["target"]["rawSql"], {}, mark["target"]))
    return found


def filled(asked: Asked, span: Span, chosen: Mapping[str, Sequence[str]]) -> str:
    """Write a query as its source is sent it; who chose nothing has chosen all."""
    since = asked.panel.get("timeFrom")
    begin = span.end - int(since[:-1]) * _SPANS[since[-1]] if since else span.begin
    step = max(1, (span.end - begin) // _POINTS)
    macros = {
        r"\$__timeFilter\(([\w.]+)\)": (
            rf"\1 >= toDateTime({begin}) AND \1 <= toDateTime({span.end})"
        ),
        r"\$__timeInterval\(([\w.]+)\)": (
            rf"toStartOfInterval(toDateTime(\1), INTERVAL {step} second)"
        ),
        r"\$__fromTime": f"toDateTime({begin})",
        r"\$__toTime": f"toDateTime({span.end})",
        r"\$__interval_s": str(step),
        r"\$__rate_interval": "1m",
        r"\$__range": f"{span.end - begin}s",
    }
    text = asked.text
    for macro, meaning in macros.items():
        text = re.sub(macro, meaning, text)
    return re.sub(r"\$(?:\{(\w+)(?::(\w+))?\}|(\w+))", partial(_chosen, asked, chosen), text)


def _chosen(asked: Asked, chosen: Mapping[str, Sequence[str]], found: re.Match[str]) -> str:
    name = found[1] or found[3]
    variables = boards()[asked.board]["templating"]["list"]
    [variable] = [each for each in variables if each["name"] == name]
    values = chosen.get(name, ())
    if not values:
        return str(variable["allValue"])
    return _FORMATS[found[2] or "glob"](values)


def _escaped(value: str) -> str:
    return re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value)


_FORMATS: Mapping[str, Callable[[Sequence[str]], str]] = {
    "glob": lambda values: values[0],
    "sqlstring": lambda values: ",".join("'" + v.replace("'", "''") + "'" for v in values),
    "regex": lambda values: f"({'|'.join(map(_escaped, values))})",
}
"""As Grafana writes what was chosen."""
