"""`vigil demo`: options, progress, and how it ends."""

import os
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.core.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services.cli.demo.run import Course, Stream
    from services.simulator.delivery import Sent


def demo(
    *,
    seconds: Annotated[float, typer.Option(min=5, help="How long patients stream in.")] = 180,
    source: Annotated[
        str, typer.Option(help="`ward` (simulated), or a file or folder of recorded patients.")
    ] = "ward",
    patients: Annotated[int, typer.Option(min=1, help="Beds of the simulated ward.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the simulated ward.")] = 2026,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the account there, as JSON.")
    ] = None,
) -> None:
    """Let a ward stream through Vigil for a few minutes, and take account of everything.

    Starts a stack of its own under .vigil/demo, sends FHIR faster than real time, shows what was
    scored, alerted, refused and proved, and stops all that it started.
    """
    from rich.console import Console

    from services.cli.demo.run import Demo
    from services.cli.demo.table import show
    from services.local.home import Home, here

    talk = Console(stderr=True)
    base = here()
    home = Home(root=base.root / "demo", cache=base.cache)
    stream = _stream(source, patients=patients, seed=seed)
    run = Demo(home, dict(os.environ), tell=talk.print, clock=time.monotonic)
    with _progress(talk, seconds) as progress:
        course = run.run(stream, seconds, progress)
    show(course, Console())
    if json_file:
        json_file.write_bytes(_json(course, source))
    raise typer.Exit(_outcome(course))


def _stream(source: str, *, patients: int, seed: int) -> "Stream":
    from services.cli.demo.run import Stream
    from services.simulator.recording import open_recording

    if source != "ward":
        found = open_recording(Path(source), "replay", now=lambda: datetime.now(UTC))
        return Stream(
            f"{found.patients or 'some'} recorded patients", found.patients, found.stream
        )
    from services.simulator.ward import open_ward

    return Stream(f"a ward of {patients} patients", patients, open_ward(patients, seed=seed))


@contextmanager
def _progress(console: Any, seconds: float) -> "Iterator[Callable[[Sent], None]]":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("streaming"),
        BarColumn(),
        TextColumn("{task.fields[messages]:,} messages, {task.fields[rate]:.0f}/s, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("streaming", total=seconds, messages=0, rate=0.0)

        def tell(sent: "Sent") -> None:
            rate = sent.sent / max(sent.elapsed_s, 1e-9)
            bar.update(task, completed=sent.elapsed_s, messages=sent.sent, rate=rate)

        yield tell


def _json(course: "Course", source: str) -> bytes:
    import msgspec

    report = {
        "schema": "vigil.demo/1",
        "source": Path(source).name,
        **msgspec.structs.asdict(course),
    }
    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def _outcome(course: "Course") -> ExitCode:
    answered = course.sent["accepted"] + sum(course.sent["refused"].values())
    if course.verified and course.reconciled and answered == course.sent["sent"]:
        return ExitCode.OK
    sys.stderr.write("vigil: the account does not add up; see the table\n")
    return ExitCode.FINDING
