"""`vigil demo`: options, and how it ends."""

import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault

if TYPE_CHECKING:
    from services.cli.demo.account import Course
    from services.cli.demo.run import Stream


def demo(  # noqa: PLR0913 - each is an option
    *,
    seconds: Annotated[float, typer.Option(min=5, help="How long patients stream in.")] = 180,
    until: Annotated[
        str, typer.Option(help="End the stream at a milestone: first-score, -alert or -signal.")
    ] = "",
    source: Annotated[
        str, typer.Option(help="`ward` (simulated), or a file or folder of recorded patients.")
    ] = "ward",
    patients: Annotated[int, typer.Option(min=1, help="Beds of the simulated ward.")] = 100,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the ward, of what strikes it, of those who answer.")
    ] = 2026,
    scenario: Annotated[
        str, typer.Option(help="What strikes half-way; drawn by the seed if not given.")
    ] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the account there, as JSON.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Where the page for clinical leadership goes; default: beside the data"),
    ] = None,
) -> None:
    """Let a ward stream through Vigil for a few minutes, and take account of everything.

    Starts a stack of its own under .vigil/demo, whatever else runs here, sends FHIR faster than
    real time, shows what was scored, alerted, refused and proved, and stops all that it started.
    """
    from rich.console import Console

    from services.cli.demo.run import Demo
    from services.cli.demo.table import show
    from services.cli.demo.talk import Talk
    from services.local.conditions import alone
    from services.local.home import here

    for file in filter(None, (json_file, report)):
        _refuse_no_folder(file)
    milestone = milestone_of(until)
    # Ended from outside, it cleans up as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ward = source == "ward"
    stream = _ward(patients, seed, seconds, scenario) if ward else _recorded(Path(source))
    stream = stream._replace(until=milestone)
    base = here()
    folder = base.root / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, "vigil demo"):
        run = Demo(base, dict(os.environ), talk=Talk(Console(stderr=True)), clock=time.monotonic)
        page = report or folder / "report.html"
        course = run.run(stream, seconds, page.absolute())
    written = os.path.relpath(page) if page.exists() else ""
    show(course, Console(), os.path.relpath(run.home.root), written)
    if json_file:
        json_file.write_bytes(_json(course, source))
    raise typer.Exit(_outcome(course, run.home.logs))


def milestone_of(until: str) -> str:
    """Read the name of a milestone; raises BadParameter when there is none of that name."""
    from services.cli.demo.listener import MILESTONES

    named = until.replace("-", " ")
    if named not in ("", *MILESTONES):
        known = ", ".join(name.replace(" ", "-") for name in MILESTONES)
        raise typer.BadParameter(f"no milestone {until!r}; there are {known}")
    return named


def _refuse_no_folder(file: Path | None) -> None:
    if file and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise CommandError(
            f"the account cannot be written to {file}",
            "give --json and --report a file in a folder that exists",
            Fault.NO_FOLDER,
        )


def _ward(patients: int, seed: int, seconds: float, scenario: str) -> "Stream":
    from services.cli.demo.play import Play
    from services.cli.demo.run import SPEED, Stream

    play = Play(patients, seed=seed, hours=seconds * SPEED / 3600, scenario=scenario)
    return Stream(f"a ward of {patients} patients", play.messages(), play)


def _recorded(path: Path) -> "Stream":
    from services.cli.demo.run import Stream
    from services.simulator.recording import open_recording

    found = open_recording(path, "replay", now=lambda: datetime.now(UTC))
    who = f"{found.patients} recorded patients" if found.patients else "what is recorded there"
    return Stream(who, found.stream)


def _json(course: "Course", source: str) -> bytes:
    import msgspec

    report = {
        "schema": "vigil.demo/1",
        "ok": course.adds_up,
        "source": Path(source).name,
        **msgspec.structs.asdict(course),
    }
    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def _outcome(course: "Course", logs: Path) -> ExitCode:
    if course.adds_up and course.reached:
        return ExitCode.OK
    if course.adds_up:
        sys.stderr.write(f"vigil: the {course.until} did not come; give it more --seconds\n")
        return ExitCode.FINDING
    sys.stderr.write(
        f"vigil: the account does not add up; see the table\n  what to do: read {logs}\n"
    )
    return ExitCode.FINDING
