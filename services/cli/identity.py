"""`vigil identity`: from a pseudonym back to the patient, for those who hold the payload key."""

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli.changing import Reason, RequestedBy
from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from services.core.events import Change, Identity

app = typer.Typer(help="Who a pseudonym is.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]

TOPIC: Final = "identity.v1"
PATIENCE_S: Final = 10.0
PSEUDONYM_BYTES: Final = 16
KIND: Final = "access"
"""Of the entries of changes.v1 that tell who was shown whom."""


@app.callback()
def group() -> None:
    """Keep `show` a word of its own, though it is the only one."""


@app.command()
def show(
    pseudonym: Annotated[str, typer.Argument(help="32 hex digits, as alerts and boards show it.")],
    *,
    requested_by: RequestedBy,
    reason: Reason,
    json: Json = False,
) -> None:
    """Say which patient of which source a pseudonym stands for; needs the payload key file.

    Who asks, when, for which pseudonym and why is written to changes.v1 first, for good; it names
    no patient.
    """
    import msgspec

    from services.ingest.settings import IngestSettings
    from services.runtime.vault import Vault

    name = _parsed(pseudonym)
    asked = access(name, requested_by, reason, dt.datetime.now(dt.UTC))
    vault = Vault.from_file(IngestSettings().payload_key_file)  # first: nobody else is told more
    found = _latest(name)
    _record(asked)
    told: dict[str, Any] = msgspec.json.decode(
        vault.open(found.key_epoch, found.ciphertext, found.pseudonym)
    )
    row = {"pseudonym": name.hex(), **told}
    if json:
        print(msgspec.json.encode({"schema": "vigil.identity.show/1", **row}).decode())
        return
    for field, value in row.items():
        print(f"{field:<10} {value}")


def access(pseudonym: bytes, requested_by: str, reason: str, at: dt.datetime) -> "Change":
    """Make the entry that tells who asks for a person; raises BadParameter where it is unsaid."""
    from services.cli.moment import microseconds
    from services.core.events import Change

    if not (requested_by.strip() and reason.strip()):
        raise typer.BadParameter("who asks, and why, must be said")
    return Change(
        change_id=str(uuid.uuid4()),
        kind=KIND,
        subject=f"identity/{pseudonym.hex()}",
        made_at=microseconds(at),
        effective_from=microseconds(at),
        requested_by=requested_by,
        approved_by="",
        reason=reason,
        before="",
        after="",
    )


def _record(asked: "Change") -> None:
    """Write who asked; raises Retry when Kafka does not say that it did, and nothing is shown."""
    from services.cli.changing import write
    from services.runtime.codec import Codec
    from services.runtime.settings import KafkaSettings, ServiceSettings

    write(asked, KafkaSettings().client_options(), Codec(ServiceSettings().schemas))


def _parsed(pseudonym: str) -> bytes:
    try:
        name = bytes.fromhex(pseudonym)
    except ValueError:
        name = b""
    if len(name) != PSEUDONYM_BYTES:
        raise typer.BadParameter("a pseudonym is 32 hex digits")
    return name


def _latest(pseudonym: bytes) -> "Identity":
    """Read what the topic holds of a pseudonym; a patient has one partition."""
    from services.core.events import Identity, partition_of
    from services.runtime.codec import Codec
    from services.runtime.kafka.admin import partitions_of
    from services.runtime.kafka.reader import scan
    from services.runtime.settings import KafkaSettings, ServiceSettings

    options, codec = KafkaSettings().client_options(), Codec(ServiceSettings().schemas)
    places = partitions_of(options, [TOPIC])
    wanted = [(TOPIC, partition_of(pseudonym, len(places)))]
    values = [
        record.value
        for record in scan(options, wanted, patience_s=PATIENCE_S)
        if record.key == pseudonym and record.value
    ]
    if not values:
        raise CommandError(
            "Nobody of that pseudonym is known here.",
            "Give the 32 hex digits that alerts and boards show.",
            Fault.NO_IDENTITY,
        )
    return codec.decode(values[-1], Identity)
