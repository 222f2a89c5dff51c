"""`vigil train` and `vigil evaluate`: data into a bundle, and a bundle against data."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

Data = Annotated[
    Path, typer.Option(help="PhysioNet-2019-shaped: a Parquet file or a folder of .psv files.")
]

_COLUMNS: Final = {
    "utility": "utility",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier",
    "ece": "ECE",
    "sensitivity": "sensitivity",
    "ppv": "PPV",
    "challenge_auroc": "AUROC, all hours",
}


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
    from services.training.pipeline import train as run

    trained = run(data, out, study=study, say=_say)
    found = {name: row["all"] for name, row in trained.rows.items()}
    if as_json:
        _print_json({"schema": "vigil.train/1", "digest": trained.digest, "rows": found})
        return
    print(_table(found))
    print(f"\nbundle {out}, digest {trained.digest}")


def evaluate(
    model: Annotated[Path, typer.Option(help="The bundle's folder.")],
    data: Data,
    *,
    json: Annotated[
        Path | None, typer.Option(help="Write the whole report to this file; - for stdout.")
    ] = None,
) -> None:
    """Score recorded stays as the service would, and report with intervals by patient."""
    from services.runtime.bundle import load
    from services.training.evaluate import evaluate as run
    from services.training.pack import as_json
    from services.training.source import read

    bundle = load(model)
    _say(f"reading {data.name}")
    stays = read(data)
    _say(f"scoring {len(stays.hour)} hours of {len(stays.ids)} patients")
    report = {"schema": "vigil.evaluate/1", **run(bundle, stays)}
    if report["data"]["trained_on"]:
        _say("the model was trained on these patients: they flatter it")
    if json == Path("-"):
        sys.stdout.write(as_json(report).decode())
        return
    if json is not None:
        json.write_bytes(as_json(report))
    groups = {
        f"{dimension} {name}": found
        for dimension, members in report["subgroups"].items()
        for name, found in members.items()
    }
    print(_table({"all": report["all"], **groups}))


def _table(rows: dict[str, dict[str, Any]]) -> str:
    """One line a measure, one column a row of the report, intervals in brackets."""
    lines = [["", *rows], ["patients", *(str(row["patients"]) for row in rows.values())]]
    for key, title in _COLUMNS.items():
        lines.append([title, *(_cell(row.get(key)) for row in rows.values())])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(measure: dict[str, Any] | None) -> str:
    if measure is None:
        return "-"
    if measure["value"] is None:
        return str(measure["state"])
    low, high = measure["interval"]
    return f"{measure['value']:.3f} [{low:.3f}, {high:.3f}]"


def _print_json(value: dict[str, Any]) -> None:
    import json

    print(json.dumps(value))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
