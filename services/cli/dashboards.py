"""`vigil dashboards`: Grafana's boards, from code to the JSON that provisioning reads."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.consent import Yes, ask
from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault

app = typer.Typer(help="Grafana's boards, as JSON.", no_args_is_help=True)
Folder = Annotated[
    Path | None,
    typer.Option("--to", help="Another folder than dashboards/ of this project.", file_okay=False),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Differences = list[tuple[str, str]]


@app.command()
def diff(*, to: Folder = None, json: Json = False) -> None:
    """Show which files `build` would write; exit code 1 if that is any."""
    found = _differing(to)
    _report("diff", found, json=json)
    if found:
        raise typer.Exit(ExitCode.FINDING)


@app.command()
def build(
    *,
    to: Folder = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Write the boards; asks before a file that is there is changed or removed."""
    from dashboards.build import FOLDER, write

    found = _differing(to)
    if any(what != "create" for _, what in found) and not yes:
        look, go = "vigil dashboards diff", "vigil dashboards build --yes"
        ask(_lines(found), "Change these files?", look=look, go=go)
    try:
        write(to or FOLDER)
    except OSError as error:
        raise CommandError(
            f"the boards cannot be written: {error.strerror}",
            "choose a folder that you may write to with --to",
            Fault.UNWRITABLE,
        ) from None
    _report("build", found, json=json)


def _differing(to: Path | None) -> Differences:
    try:
        from dashboards.build import FOLDER, differing
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the package {error.name} is not installed",
            "boards are made where the project is developed: make setup",
            Fault.NOT_INSTALLED,
        ) from None
    return list(differing(to or FOLDER))


def _report(command: str, found: Differences, *, json: bool) -> None:
    if json:
        import msgspec

        files = [{"file": name, "action": what} for name, what in found]
        body = {"schema": f"vigil.dashboards.{command}/1", "files": files}
        print(msgspec.json.encode(body).decode())
        return
    for line in _lines(found) or ["all files are as the boards say"]:
        print(line)


def _lines(found: Differences) -> list[str]:
    return [f"{what:<8} {name}" for name, what in found]
