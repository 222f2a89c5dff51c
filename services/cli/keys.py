"""`vigil keys`: the payload key by epochs; a new one seals from a time on, old ones still open."""

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli.consent import DryRun, Yes, ask
from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from services.runtime.vault import Epoch

app = typer.Typer(help="Payload keys and their epochs.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
After = Annotated[
    int,
    typer.Option(
        "--after",
        min=1,
        max=604_800,
        help="Seconds from now until it seals: as long as the file takes to reach every service.",
    ),
]

PRINT_DIGITS: Final = 8


@app.command("list")
def list_epochs(*, json: Json = False) -> None:
    """Show the epochs: since when each seals, and a fingerprint to tell keys apart."""
    _report("list", _told(_epochs()[1]), json=json)


@app.command()
def rotate(
    *, after: After = 60, yes: Yes = False, dry_run: DryRun = False, json: Json = False
) -> None:
    """Append a key that seals from a time on; running services take it up by themselves."""
    from services.cli.keyring import append

    path, epochs = _epochs()
    now = time.time_ns() // 1000
    if epochs[-1].since > now:
        raise CommandError(
            f"Epoch {len(epochs)} has not begun yet.",
            "Wait until it has: `vigil keys list` says when.",
            Fault.KEY_PENDING,
        )
    since = now + after * 1_000_000
    if not (yes or dry_run):
        lines = [f"{path}: epoch {len(epochs) + 1} seals from {_moment(since)} on"]
        look, go = "vigil keys rotate --dry-run", "vigil keys rotate --yes"
        ask(lines, "Append a key?", look=look, go=go)
    if not dry_run:
        epochs = append(path, epochs, since)
    begins = {"epoch": len(epochs) + dry_run, "since": _moment(since), "dry_run": dry_run}
    _report("rotate", [begins], json=json)


def _epochs() -> "tuple[Path, list[Epoch]]":
    from services.ingest.settings import IngestSettings
    from services.runtime.vault import read_epochs

    path = IngestSettings().payload_key_file
    return path, read_epochs(path)


def _told(epochs: "list[Epoch]") -> list[dict[str, Any]]:
    import hashlib

    return [
        {
            "epoch": number,
            "since": _moment(epoch.since) if epoch.since else "the beginning",
            "fingerprint": hashlib.sha256(epoch.key).hexdigest()[:PRINT_DIGITS],
        }
        for number, epoch in enumerate(epochs, 1)
    ]


def _moment(at: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at // 1_000_000, UTC).isoformat().replace("+00:00", "Z")


def _report(command: str, rows: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        import msgspec

        body = {"schema": f"vigil.keys.{command}/1", "epochs": rows}
        print(msgspec.json.encode(body).decode())
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
