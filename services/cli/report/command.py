"""`vigil report`: options, and where the page goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from services.cli.report.material import Material
    from services.runtime.clickhouse import ClickHouse

FILE = Path("vigil-report.html")
STDOUT = Path("-")


def report(
    *,
    since: Annotated[
        str, typer.Option("--from", help="Day or time with zone; default: where the ledger begins")
    ] = "",
    until: Annotated[
        str, typer.Option("--to", help="The same, not in it; default: how far time has come.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help=f"The HTML file, - for stdout; default: {FILE}, with --json none."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write a page for those who answer for the model: one HTML file that needs nothing else."""
    import sys

    from services.cli.ledger import migrated

    file = out or (None if json else FILE)
    if file == STDOUT and json:
        raise typer.BadParameter("stdout takes --json or the page, not both")
    if file and file != STDOUT:
        refuse_no_folder(file, "--out")
    material = _material(migrated(), since, until)
    from services.cli.report.page import content, render, view

    page = view(material)
    if file == STDOUT:
        sys.stdout.buffer.write(render(page))
    elif file:
        file.write_bytes(render(page))
        print(f"the report is in {file}", file=sys.stderr)
    if json:
        import msgspec

        body = {"schema": "vigil.report/1", **material.period._asdict(), **content(page)}
        print(msgspec.json.encode(body).decode())


def refuse_no_folder(file: Path, option: str) -> None:
    """Raise CommandError where a file cannot be written."""
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise CommandError(
            f"nothing can be written to {file}",
            f"give {option} a file in a folder that exists",
            Fault.NO_FOLDER,
        )


def _material(store: "ClickHouse", since: str, until: str) -> "Material":
    from services.cli.recompute import measured
    from services.cli.report.gather import gather

    period, statements = measured(store, since, until)
    return gather(store, period, statements)
