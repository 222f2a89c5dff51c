"""Schemas through time: what was ever written can be read for ever, by either side.

`history/<fingerprint>.avsc` holds every schema that ever landed, named by its CRC-64-AVRO
fingerprint in hex, in the order of its bytes on the wire. Compatibility is FULL_TRANSITIVE and
judged by the official `avro` package: today's schema reads all of the past, and the past reads it.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from avro.compatibility import (
    ReaderWriterCompatibilityChecker,
    SchemaCompatibilityResult,
    SchemaCompatibilityType,
)
from avro.errors import AvroException
from avro.schema import NamedSchema, parse

from services.core.errors import CommandError
from services.core.faults import Fault
from services.runtime.topics.plan import Refused


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """A schema file as the official package understands it."""

    path: Path
    name: str
    fingerprint: str
    schema: NamedSchema


def read_schemas(folder: Path) -> list[Landed]:
    """Read every schema of a folder, by file name; an absent folder holds none.

    Raises:
        CommandError: a file is no schema of a record.
    """
    return [_read(path) for path in sorted(folder.glob("*.avsc"))]


def _read(path: Path) -> Landed:
    try:
        schema = parse(path.read_text(), validate_names=True)
    except (OSError, AvroException, json.JSONDecodeError) as error:
        raise CommandError(
            f"{path} is no Avro schema: {error}", "correct it", Fault.SCHEMA_FILE
        ) from None
    if not isinstance(schema, NamedSchema):
        raise CommandError(
            f"{path} describes no record", "give it a name and fields", Fault.SCHEMA_FILE
        )
    mark = schema.fingerprint("CRC-64-AVRO").hex()
    return Landed(path=path, name=schema.fullname, fingerprint=mark, schema=schema)


def incompatible(schemas: Path) -> list[Refused]:
    """List today's schemas that cannot live with one of the past.

    Args:
        schemas: the folder that holds `events/` and `history/`.

    Raises:
        CommandError: a file is no schema.
    """
    past = read_schemas(schemas / "history")
    return [
        Refused(subject=today.path.name, why=why)
        for today in read_schemas(schemas / "events")
        for why in _complaints(today, [old for old in past if old.name == today.name])
    ]


def _complaints(today: Landed, past: Sequence[Landed]) -> Iterator[str]:
    for old in past:
        backward = _compatibility(today, old)
        forward = _compatibility(old, today)
        if backward.compatibility is not SchemaCompatibilityType.compatible:
            yield f"it cannot read what {old.path.name} wrote: {_first(backward)}"
        if forward.compatibility is not SchemaCompatibilityType.compatible:
            yield f"readers with {old.path.name} cannot read what it writes: {_first(forward)}"


def _compatibility(reader: Landed, writer: Landed) -> SchemaCompatibilityResult:
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # avro has no types here
    return checker.get_compatibility(reader.schema, writer.schema)


def _first(result: SchemaCompatibilityResult) -> str:
    return f"{min(result.messages, default='')} at {min(result.locations)}"


def unfrozen(schemas: Path) -> list[Landed]:
    """List today's schemas that history does not hold yet; raises as `incompatible` does."""
    known = {old.fingerprint for old in read_schemas(schemas / "history")}
    return [s for s in read_schemas(schemas / "events") if s.fingerprint not in known]


def freeze(schemas: Path) -> list[Path]:
    """Copy today's schemas into history and say which were new; nothing is ever overwritten.

    Raises:
        CommandError: one of them is incompatible with the past, or no schema.
    """
    if complaints := incompatible(schemas):
        raise CommandError(
            f"{complaints[0].subject} is incompatible: {complaints[0].why}",
            "give new fields a default and leave the others as they were",
            Fault.INCOMPATIBLE,
        )
    folder = schemas / "history"
    folder.mkdir(exist_ok=True)
    written = [(folder / f"{s.fingerprint}.avsc", s.path.read_text()) for s in unfrozen(schemas)]
    for path, text in written:
        path.write_text(text)
    return [path for path, _ in written]
