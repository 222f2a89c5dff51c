"""`vigil evaluate`: what a bundle is worth on recorded stays, of this hospital or another."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

_ROWS: Final = {
    "utility": "utility",
    "auroc": "AUROC",
    "challenge_auroc": "AUROC, all hours",
    "auprc": "AUPRC",
    "brier": "Brier",
    "ece": "ECE",
    "calibration_slope": "calibration slope",
    "top_decile_o_e": "O:E in the top decile",
    "sensitivity": "sensitivity",
    "ppv": "PPV",
    "alert_share": "share of hours alerted",
    "no_score": "share of hours without a score",
    "first_alert_sensitivity": "first alert: sensitivity",
    "first_alert_ppv": "first alert: PPV",
    "first_alert_per_100_patient_days": "first alerts in 100 patient-days",
    "first_alert_lead_h": "first alert: median lead, h",
}


def evaluate(
    model: Annotated[Path, typer.Option(help="The bundle's folder.")],
    data: Annotated[
        Path, typer.Option(help="PhysioNet-2019-shaped: a Parquet file or a folder of .psv files.")
    ],
    *,
    alert_share: Annotated[
        float | None,
        typer.Option(
            min=0.0001, max=1, help="Take the threshold from the scores: so many hours alerted."
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the whole report to this file; - for stdout.")
    ] = None,
) -> None:
    """Score recorded stays as the service would, and report with intervals by patient."""
    from services.runtime.bundle import load, policy_of, support_of
    from services.scoring.abstention import causes
    from services.training.evaluate import evaluate as run
    from services.training.pack import as_json
    from services.training.source import read

    bundle = load(model)
    rule, limits = policy_of(bundle).abstain, support_of(bundle)
    found = run(
        bundle,
        read(data, say=say),
        share=alert_share,
        abstention=lambda standing: causes(rule, standing, limits),
        say=say,
    )
    report = {"schema": "vigil.evaluate/1", **found}
    if report["data"]["trained_on"]:
        say("the model was trained on these patients: they flatter it")
    if json == Path("-"):
        sys.stdout.write(as_json(report).decode())
        return
    if json is not None:
        write(json, as_json(report))
    rows = {"all": report["all"], "as served": report["as_served"]}
    print(table(rows | _groups(report["subgroups"])))


def say(line: str) -> None:
    """Tells of progress on stderr, so that stdout holds results alone."""
    print(line, file=sys.stderr, flush=True)


def write(path: Path, content: bytes) -> None:
    """Writes a report, or says why not."""
    from services.core.errors import CommandError
    from services.core.faults import Fault

    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandError(
            f"The report cannot be written to {path}.",
            "Name a file in a folder that exists and that you may write to.",
            Fault.UNWRITABLE,
        ) from error


def table(rows: dict[str, dict[str, Any]]) -> str:
    """One line a measure, one column a row of the report, intervals in brackets."""
    lines = [["", *rows], ["patients", *(str(row["patients"]) for row in rows.values())]]
    for key, title in _ROWS.items():
        lines.append([title, *(_cell(row.get(key)) for row in rows.values())])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _groups(subgroups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        f"{dimension} {name}": found
        for dimension, members in subgroups.items()
        for name, found in members.items()
    }


def _cell(measure: dict[str, Any] | None) -> str:
    if measure is None:
        return "-"
    if "median" in measure:
        return _lead(measure)
    if measure["value"] is None:
        return str(measure["state"])
    low, high = measure["interval"]
    return f"{measure['value']:.3f} [{low:.3f}, {high:.3f}]"


def _lead(measure: dict[str, Any]) -> str:
    median, low, high = (
        "missed" if hours is None else f"{hours:.0f}"
        for hours in (measure["median"], *measure["median_interval"])
    )
    return f"{median} [{low}, {high}]"
