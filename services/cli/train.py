"""`vigil train`: data into a bundle."""

from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.evaluate import say, table

Data = Annotated[
    Path, typer.Option(help="PhysioNet-2019-shaped: a Parquet file or a folder of .psv files.")
]


def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The bundle's folder: <name>/<version>.")],
    *,
    study: Annotated[
        bool, typer.Option(help="Cross-validate the other sets of columns as well.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one JSON object.")] = False,
) -> None:
    """Train a model on recorded stays and write its bundle; takes ten to thirty minutes."""
    from services.training.pack import provenance
    from services.training.pipeline import train as run
    from services.training.study import STUDY

    sets = [columns for columns in STUDY if study or columns.name == "shipped"]
    trained = run(data, out, made_by=provenance(), sets=sets, say=say)
    found = {name: row["all"] for name, row in trained.rows.items()}
    if as_json:
        _print_json({"schema": "vigil.train/1", "digest": trained.digest, "rows": found})
        return
    print(table(found))
    print(f"\nbundle {out}, digest {trained.digest}")


def _print_json(value: dict[str, Any]) -> None:
    import json

    print(json.dumps(value))
