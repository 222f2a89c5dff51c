"""Events to bytes and back: Avro single-object encoding, so that a reader needs `schemas/` alone.

The wire is 0xC3 0x01, the CRC-64-AVRO fingerprint of the writer's schema (8 bytes, little-endian)
and the body. Every schema in `schemas/events` (today's) and `schemas/history` can be read.
"""

import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import fastavro
import fastavro.schema
import msgspec

from services.core import events
from services.core.errors import Reason, Refusal, Stop

MAGIC: Final = b"\xc3\x01"
HEADER_BYTES: Final = 10
MAX_BYTES: Final = 2 << 20
"""No topic takes a longer message; a longer one is refused before it is read."""

T = TypeVar("T", bound=msgspec.Struct)
Schema = dict[str, Any]
Floats = tuple[tuple[str, "Floats"], ...]
"""The fields in which there are floats, each with those within it."""


def fingerprint(schema: Schema) -> bytes:
    """Fingerprint a schema: CRC-64-AVRO of its canonical form, 8 bytes as on the wire."""
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


class _Reader(msgspec.Struct, frozen=True):
    name: str
    schema: Any  # as fastavro parsed it
    floats: Any  # Floats

    @classmethod
    def of(cls, raw: Schema) -> Self:
        return cls(raw["name"], fastavro.parse_schema(raw), _floats(raw))


class Codec:
    """Encodes and decodes every event that `schemas/` describes."""

    def __init__(self, schemas: Path) -> None:
        """Read today's schemas and those of the past.

        Args:
            schemas: the folder that holds `events/` and, perhaps, `history/`.

        Raises:
            OSError: the folder cannot be read.
            ValueError: a schema is none.
        """
        self._writers: dict[str, tuple[bytes, Any]] = {}
        self._readers: dict[bytes, _Reader] = {}
        for raw in _schemas_in(schemas / "history"):
            self._readers[fingerprint(raw)] = _Reader.of(raw)
        for raw in _schemas_in(schemas / "events"):
            mark, reader = fingerprint(raw), _Reader.of(raw)
            self._readers[mark] = reader
            self._writers[reader.name] = (MAGIC + mark, reader.schema)
        if not self._writers:
            raise FileNotFoundError(f"there are no schemas in {schemas / 'events'}")

    def header_of(self, kind: type[msgspec.Struct]) -> bytes:
        """Give the first HEADER_BYTES of every event of a kind that is written today."""
        return self._writers[kind.__name__][0]

    def encode(self, event: msgspec.Struct) -> bytes:
        """Encode an event of `services.core.events` by today's schema."""
        header, schema = self._writers[type(event).__name__]
        buffer = io.BytesIO()
        buffer.write(header)
        fastavro.schemaless_writer(
            buffer, schema, msgspec.to_builtins(event, builtin_types=(bytes,))
        )
        return buffer.getvalue()

    def decode(self, data: bytes, expected: type[T]) -> T:
        """Decode a message by the schema it was written with.

        Args:
            data: the message, at most MAX_BYTES.
            expected: the event it must be.

        Raises:
            Refusal: the framing or the body is malformed (AVRO_SYNTAX, SCHEMA_UNKNOWN, TOO_LARGE),
                or a number outside a packed column is not finite (NUM_NONFINITE).
            Stop: the framing is right and nobody here knows the schema; readers go before writers.
        """
        name, fields = self.decode_fields(data)
        if name != expected.__name__:
            raise Refusal(Reason.SCHEMA_UNKNOWN, "header")
        try:
            return msgspec.convert(fields, expected, strict=False)
        except msgspec.ValidationError:
            raise Refusal(Reason.AVRO_SYNTAX, "body") from None

    def decode_fields(self, data: bytes) -> tuple[str, Mapping[str, Any]]:
        """Decode a message to its schema's name and its fields; raises as `decode` does."""
        if len(data) > MAX_BYTES:
            raise Refusal(Reason.TOO_LARGE, "record")
        if data[:2] != MAGIC or len(data) < HEADER_BYTES:
            raise Refusal(Reason.SCHEMA_UNKNOWN, "header")
        if data[2:HEADER_BYTES] not in self._readers:
            raise Stop("a message has a schema that is not in schemas/: deploy readers first")
        reader = self._readers[data[2:HEADER_BYTES]]
        body = io.BytesIO(data[HEADER_BYTES:])
        try:
            fields = fastavro.schemaless_reader(body, reader.schema, None)
        except (EOFError, ValueError, IndexError, TypeError, OverflowError, MemoryError):
            raise Refusal(Reason.AVRO_SYNTAX, "body") from None
        if body.tell() != len(data) - HEADER_BYTES or not isinstance(fields, dict):
            raise Refusal(Reason.AVRO_SYNTAX, f"byte {HEADER_BYTES + body.tell()}")
        for name, within in reader.floats:
            if not _finite(fields[name], within):
                raise Refusal(Reason.NUM_NONFINITE, name)
        return reader.name, fields


def _schemas_in(folder: Path) -> Iterator[Schema]:
    for path in sorted(folder.glob("*.avsc")):
        yield json.loads(path.read_text())


def _floats(schema: Any) -> Floats:
    if isinstance(schema, list):
        return tuple(each for branch in schema for each in _floats(branch))
    if not isinstance(schema, dict):
        return ()
    if schema["type"] == "array":
        return _floats(schema["items"])
    fields = ((each["name"], each["type"]) for each in schema.get("fields", ()))
    return tuple((name, _floats(kind)) for name, kind in fields if _has_floats(kind))


def _has_floats(schema: Any) -> bool:
    text = json.dumps(schema)
    return '"double"' in text or '"float"' in text


def _finite(value: object, within: Floats) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_finite(value.get(name), deeper) for name, deeper in within)
    return not isinstance(value, list) or all(_finite(part, within) for part in value)


EVENTS: Final[Mapping[str, type[msgspec.Struct]]] = {
    kind.__name__: kind
    for kind in (
        events.Vitals,
        events.Receipt,
        events.Identity,
        events.Patient,
        events.PredictionBatch,
        events.Alert,
        events.DeadLetter,
        events.Feedback,
        events.Outcome,
        events.Labelled,
        events.Tally,
        events.Measurement,
        events.Signal,
        events.Notice,
        events.Change,
    )
}
"""The event of each schema, by name."""
