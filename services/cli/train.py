"""`vigil train`: data into a bundle."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.evaluate import say, table

Data = Annotated[
    Path, typer.Option(help="PhysioNet-2019-shaped: a Parquet file or a folder of .psv files.")
]


class Sets(StrEnum):
    """The sets of columns, by their names in the study."""

    FULL = "full"
    SHIPPED = "shipped"
    STRICT = "strict"
    TIME_ONLY = "time_only"


def train(
    data: Data,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="The bundle's folder: <name>/<version>. Without it none is made."),
    ] = None,
    columns: Annotated[
        list[Sets] | None,
        typer.Option(help="Cross-validate these alone; a bundle needs `shipped`. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one JSON object.")] = False,
) -> None:
    """Train a model on recorded stays and write its bundle; takes ten to thirty minutes."""
    from services.training import pipeline
    from services.training.pack import provenance
    from services.training.study import STUDY

    wanted = {*(columns or Sets), *([Sets.SHIPPED] if out else [])}
    sets = [each for each in STUDY if each.name in wanted]
    if out is None:
        rows, digest = pipeline.study(data, sets, say=say), None
    else:
        trained = pipeline.train(data, out, made_by=provenance(), sets=sets, say=say)
        rows, digest = trained.rows, trained.digest
    found = {name: row["all"] for name, row in rows.items()}
    if as_json:
        _print_json({"schema": "vigil.train/1", "digest": digest, "rows": found})
        return
    print(table(found))
    if out is not None:
        print(f"\nbundle {out}, digest {digest}")


def _print_json(value: dict[str, Any]) -> None:
    import json

    print(json.dumps(value))
