"""`vigil replay`: recorded patients, files of FHIR and of HL7 v2, sent to the gateway."""

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol
from urllib.parse import urlsplit

import typer

from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services.simulator.delivery import Pace, Sent
    from services.simulator.recording import Recording


class _Going(Protocol):
    """How far a replay is."""

    @property
    def sent(self) -> int: ...

    @property
    def elapsed_s(self) -> float: ...


_SOURCE = re.compile(r"[a-z0-9-]{1,32}")
LAST_PORT: Final = 65_535


def replay(  # noqa: PLR0913 - a command has as many options
    path: Annotated[
        Path, typer.Argument(help="Parquet, PSV, FHIR JSON or NDJSON, HL7 v2 (.hl7); or a folder.")
    ],
    *,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Event seconds per second; default: no wait.")
    ] = None,
    source: Annotated[str, typer.Option(help="The sender's id at the gateway.")] = "replay",
    gateway: Annotated[
        str, typer.Option(help="The gateway's address; default: the one that runs here.")
    ] = "",
    mllp: Annotated[
        str, typer.Option(help="Where HL7 v2 is taken; default: the gateway that runs here.")
    ] = "",
    limit_patients: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many recorded patients.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one JSON object.")] = False,
) -> None:
    """Send recorded patients (PhysioNet 2019), FHIR files or HL7 v2 messages to the gateway.

    Recorded patients arrive within a day from Monday, January 5, 2026, 00:00 UTC, one Bundle per
    patient and hour. The same replay sent twice is recognized as duplicates; give it another
    --source to have new patients. HL7 v2 goes over MLLP, one message after the other; its source
    is what the gateway makes of the message.
    """
    from services.simulator.delivery import Pace
    from services.simulator.frames import is_hl7
    from services.simulator.recording import open_recording

    if is_hl7(path):
        _replay_hl7(path, mllp, as_json=as_json)
    gateway = gateway or f"http://127.0.0.1:{os.environ.get('VIGIL_GATEWAY_PORT', '8400')}"
    _check(source, gateway)
    recording = open_recording(path, source, now=lambda: datetime.now(UTC), limit=limit_patients)
    with _progress(recording.messages) as progress:
        sent = asyncio.run(_send(recording, gateway, Pace(speed=speed), progress))
    report = {
        "schema": "vigil.replay/1",
        "kind": recording.kind,
        "source": source,
        "patients": recording.patients,
        **sent.summary(),
    }
    sys.stdout.write((json.dumps(report) if as_json else _table(report)) + "\n")
    raise typer.Exit(_outcome(sent))


def _replay_hl7(path: Path, mllp: str, *, as_json: bool) -> None:
    from services.simulator import frames

    host, _, port = (mllp or f":{os.environ.get('VIGIL_MLLP_PORT', '2575')}").rpartition(":")
    if not port.isdecimal() or not 0 < int(port) <= LAST_PORT:
        raise CommandError(
            f"{mllp!r} is not the address of a door for HL7 v2.",
            "Give host and port, such as 127.0.0.1:2575.",
            Fault.GATEWAY_ADDRESS,
        )
    with _progress(None) as progress:
        told = asyncio.run(frames.send(path, host or "127.0.0.1", int(port), progress))
    report = {"schema": "vigil.replay/1", "kind": "hl7v2", **told.summary()}
    sys.stdout.write((json.dumps(report) if as_json else _table(report)) + "\n")
    raise typer.Exit(ExitCode.REFUSED if report["refused"] else ExitCode.OK)


def _check(source: str, gateway: str) -> None:
    if not _SOURCE.fullmatch(source):
        raise CommandError(
            f"{source!r} cannot be the id of a source.",
            "Use 1 to 32 small letters, digits and dashes.",
            Fault.SOURCE_ID,
        )
    if not _is_address(gateway):
        raise CommandError(
            f"{gateway!r} is not the address of a gateway.",
            "Give scheme, host and port, such as http://127.0.0.1:8400.",
            Fault.GATEWAY_ADDRESS,
        )


def _is_address(gateway: str) -> bool:
    if not re.fullmatch(r"https?://[^/\s]+/?", gateway):
        return False
    try:
        parts = urlsplit(gateway)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, or half of an IPv6 address
        return False


async def _send(
    recording: "Recording", gateway: str, pace: "Pace", progress: "Callable[[Sent], None]"
) -> "Sent":
    from services.simulator.feeder import feed

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    return await feed(recording.stream, gateway, pace=pace, stop=stop, progress=progress)


@contextmanager
def _progress(messages: int | None) -> "Iterator[Callable[[_Going], None]]":
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("messages"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.0f}/s, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("messages", total=messages, speed=0.0)

        def show(sent: "_Going") -> None:
            rate = sent.sent / max(sent.elapsed_s, 1e-9)
            bar.update(task, completed=sent.sent, speed=rate)

        yield show


def _table(report: dict[str, object]) -> str:
    return "\n".join(f"{name:<14}{value}" for name, value in report.items() if name != "schema")


def _outcome(sent: "Sent") -> ExitCode:
    if sent.stopped:
        return ExitCode.INTERRUPTED
    return ExitCode.REFUSED if sent.refused else ExitCode.OK
