"""`vigil dlq`: what could not be used, and why; never a value of it."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli.moment import moment
from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.cli.letters import Wish
    from services.core.events import DeadLetter
    from services.runtime.ports import Record

app = typer.Typer(help="Dead letters: what could not be used, and why.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]

TOPIC: Final = "dlq.v1"
RAW: Final = "fhir.raw.v1"
PATIENCE_S: Final = 10.0
COLUMNS: Final = ("letter", "reason", "place", "entry", "source", "received_at", "record")


Reason = Annotated[str, typer.Option(help="Only this reason code.")]
Source = Annotated[str, typer.Option(help="Only this source.")]
Since = Annotated[str, typer.Option(help="Only received at this time or later.")]
Until = Annotated[str, typer.Option(help="Only received before this time.")]


@app.command("list")
def list_letters(
    *,
    reason: Reason = "",
    source: Source = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest.")] = 100,
    json: Json = False,
) -> None:
    """List dead letters, oldest first."""
    wanted = wish(reason=reason, source=source, since=since, until=until)
    found = [described(record, letter) for record, letter in _letters() if wanted.holds(letter)]
    found.sort(key=lambda row: (row["received_at"], row["letter"]))
    if json:
        _print_json("list", {"found": len(found), "letters": found[-limit:]})
        return
    for line in table(found[-limit:]) or ["no dead letters"]:
        print(line)
    if len(found) > limit:
        print(f"the latest {limit} of {len(found)}: --limit shows more")


@app.command()
def replay(  # noqa: PLR0913 - one argument per option
    letters: Annotated[
        list[str] | None, typer.Argument(help="As `vigil dlq list` names them; none is all.")
    ] = None,
    *,
    reason: Reason = "",
    source: Source = "",
    since: Since = "",
    until: Until = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent.")] = False,
    json: Json = False,
) -> None:
    """Hand dead letters to ingest once more, after what was wrong with them was mended.

    Each keeps its source, its time and its place among the patient's messages. What was handed in
    before is not sent again; name a letter's latest refusal to try that one.
    """
    from services.cli.redelivery import Redelivery

    wanted = wish(reason=reason, source=source, since=since, until=until)
    named = {_place(letter) for letter in letters or []}
    if not named and not any((reason, source, since, until)):
        raise CommandError(
            "No dead letter was chosen.",
            "Name letters, or choose them by --reason, --source, --since or --until.",
            Fault.LETTER_NAME,
        )
    chosen = [
        (record, letter)
        for record, letter in _letters()
        if wanted.holds(letter) and (not named or (record.partition, record.offset) in named)
    ]
    counts = Redelivery.from_settings().send(chosen, dry_run=dry_run)
    if json:
        _print_json("replay", {"dry_run": dry_run, **counts})
        return
    for fate, count in counts.items():
        print(f"{fate:<18} {count}")


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


def wish(*, reason: str, source: str, since: str, until: str) -> "Wish":
    """Read what was asked for; raises BadParameter for a time that is none."""
    from services.cli.letters import Wish

    return Wish(
        reason=reason,
        source=source,
        since=moment(since) if since else None,
        until=moment(until) if until else None,
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
