"""`vigil robustness`: what is lost where patients are charted otherwise, or are others."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.cli.evaluate import say, write

_HEAD: Final = ("", "utility", "lost", "by budget", "AUROC", "share alerted", "slope", "ECE")
_MEASURES: Final = {"auroc": 3, "alert_share": 2, "calibration_slope": 2, "ece": 4}


class Sets(StrEnum):
    """The sets of columns that see patients."""

    FULL = "full"
    SHIPPED = "shipped"
    STRICT = "strict"


def robustness(
    data: Annotated[
        Path, typer.Option(help="PhysioNet-2019-shaped: a Parquet file or a folder of .psv files.")
    ],
    *,
    patients: Annotated[
        float, typer.Option(min=0.01, max=1, help="Take this share of them, to be done sooner.")
    ] = 1.0,
    columns: Annotated[
        list[Sets] | None, typer.Option(help="Measure these alone; may be repeated.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the whole report to this file; - for stdout.")
    ] = None,
) -> None:
    """Train each set of columns and let it meet other charting and other units.

    Takes some fifteen minutes of one processor for 16,000 patients.
    """
    from services.training.folds import drawn
    from services.training.matrix import matrix
    from services.training.pack import as_json
    from services.training.robustness import SETS
    from services.training.robustness import robustness as run
    from services.training.source import read
    from services.training.study import course

    stays = read(data, say=say)
    if patients < 1:
        stays = stays.only(drawn(stays.ids, patients))
    say(f"computing the features of {len(stays.hour)} hours")
    wanted = {*(columns or Sets)}
    sets = [each for each in SETS if each.name in wanted]
    report = run(course(stays, matrix(stays)), sets=sets, say=say)
    if json == Path("-"):
        typer.echo(as_json(report), nl=False)
        return
    if json is not None:
        write(json, as_json(report))
    for name, changes in report["sets"].items():
        print(f"{table(name, changes)}\n")


def table(name: str, changes: dict[str, Any]) -> str:
    """Markdown: one line a change; what is at home before the arrow, what is met behind it."""
    lines = [(f"**{name}**", *_HEAD[1:]), ("---",) * len(_HEAD)]
    lines += [(what, *_cells(found)) for what, found in changes.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(found: dict[str, Any]) -> tuple[str, ...]:
    utility, (low, high) = found["utility"], found["utility"]["interval"]
    return (
        f"{utility['home']:.3f} → {utility['met']:.3f}",
        f"{utility['lost']:.3f} [{low:.3f}, {high:.3f}]",
        f"{utility['budget']:.3f}",
        *(_pair(found[measure], digits) for measure, digits in _MEASURES.items()),
    )


def _pair(values: dict[str, float | None], digits: int) -> str:
    told = ("-" if value is None else f"{value:.{digits}f}" for value in values.values())
    return " → ".join(told)
