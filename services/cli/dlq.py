"""`vigil dlq`: what could not be used, and why; never a value of it."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.core.events import DeadLetter
    from services.runtime.ports import Record

app = typer.Typer(help="Dead letters: what could not be used, and why.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]

TOPIC: Final = "dlq.v1"
RAW: Final = "fhir.raw.v1"
PATIENCE_S: Final = 10.0
COLUMNS: Final = ("letter", "reason", "place", "entry", "source", "received_at", "record")


@app.command("list")
def list_letters(
    *,
    reason: Annotated[str, typer.Option(help="Only this reason code.")] = "",
    source: Annotated[str, typer.Option(help="Only this source.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest.")] = 100,
    json: Json = False,
) -> None:
    """List dead letters, oldest first."""
    found = [
        described(record, letter)
        for record, letter in _letters()
        if reason in ("", letter.reason) and source in ("", letter.source)
    ]
    found.sort(key=lambda row: (row["received_at"], row["letter"]))
    if json:
        _print_json("list", {"found": len(found), "letters": found[-limit:]})
        return
    for line in table(found[-limit:]) or ["no dead letters"]:
        print(line)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="As `vigil dlq list` names it, such as 2-17.")],
    *,
    json: Json = False,
) -> None:
    """Open one dead letter with the key file and say what fhir.resources finds wrong in it."""
    from services.cli.diagnosis import diagnose
    from services.ingest.settings import IngestSettings
    from services.runtime.vault import Vault

    partition, offset = _place(letter)
    vault = Vault.from_file(IngestSettings().payload_key_file)
    for record, found in _letters(partition):
        if record.offset == offset:
            row = described(record, found)
            if found.payload and found.topic == RAW:
                payload = vault.open(found.key_epoch, found.payload, found.sha256)
                row["faults"] = diagnose(payload)
            _show(row, json=json)
            return
    raise CommandError(
        f"There is no dead letter {letter}.",
        "`vigil dlq list` names those that there are.",
        Fault.NO_LETTER,
    )


def described(record: "Record", letter: "DeadLetter") -> dict[str, Any]:
    """Say what may be said of a dead letter."""
    from datetime import UTC, datetime

    received = datetime.fromtimestamp(letter.received_at / 1e6, UTC)
    return {
        "letter": f"{record.partition}-{record.offset}",
        "reason": letter.reason,
        "place": letter.place,
        "record": f"{letter.topic} {letter.partition}-{letter.offset}",
        "entry": letter.entry if letter.entry >= 0 else "all",
        "source": letter.source,
        "received_at": received.isoformat(timespec="seconds"),
        "length": letter.length,
        "sha256": letter.sha256.hex(),
        "kept": bool(letter.payload),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Align rows under the names of their columns."""
    cells = [COLUMNS, *[tuple(str(row[column]) for column in COLUMNS) for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    return lines if rows else []


def _show(row: dict[str, Any], *, json: bool) -> None:
    if json:
        _print_json("show", row)
        return
    faults = row.pop("faults", None)
    for name, value in row.items():
        print(f"{name:<12} {value}")
    if faults is None:
        print("the payload was not kept, or is no FHIR: nothing more can be said")
        return
    for fault in faults or [{"place": "-", "fault": "fhir.resources finds no fault"}]:
        print(f"{'fault':<12} {fault['place']}: {fault['fault']}")


def _place(letter: str) -> tuple[int, int]:
    partition, _, offset = letter.partition("-")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise CommandError(
            f"{letter!r} names no dead letter.",
            "Give partition and offset as `vigil dlq list` shows them, such as 2-17.",
            Fault.LETTER_NAME,
        )
    return int(partition), int(offset)


def _letters(partition: int | None = None) -> "Iterator[tuple[Record, DeadLetter]]":
    """Read every dead letter that the topic holds, or those of one partition."""
    from services.core.events import DeadLetter
    from services.runtime.codec import Codec
    from services.runtime.kafka.admin import partitions_of
    from services.runtime.kafka.reader import scan
    from services.runtime.settings import KafkaSettings, ServiceSettings

    options, codec = KafkaSettings().client_options(), Codec(ServiceSettings().schemas)
    places = partitions_of(options, [TOPIC])
    wanted = [place for place in places if partition in (None, place[1])]
    for record in scan(options, wanted, patience_s=PATIENCE_S):
        if record.value is not None:
            yield record, codec.decode(record.value, DeadLetter)


def _print_json(command: str, content: dict[str, Any]) -> None:
    import msgspec

    body = {"schema": f"vigil.dlq.{command}/1", **content}
    print(msgspec.json.encode(body).decode())
