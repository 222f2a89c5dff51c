"""Events to bytes and back: Avro single-object encoding, so that a reader needs `schemas/` alone.

The wire is 0xC3 0x01, the CRC-64-AVRO fingerprint of the writer's schema (8 bytes, little-endian)
and the body. Every schema in `schemas/events` (today's) and `schemas/history` can be read.
"""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import fastavro
import fastavro.schema
import msgspec

from services.core import events
from services.core.errors import Reason, Refusal, Stop

MAGIC: Final = b"\xc3\x01"
HEADER_BYTES: Final = 10
MAX_BYTES: Final = 4 << 20
"""No message of ours is longer; a longer one is refused before it is read."""

T = TypeVar("T", bound=msgspec.Struct)
Schema = dict[str, Any]


def fingerprint(schema: Schema) -> bytes:
    """Fingerprint a schema: CRC-64-AVRO of its canonical form, 8 bytes as on the wire."""
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


def without_logical_types(schema: Any) -> Any:
    """Strip logical types, so that a time stays an integer (fastavro would build datetimes)."""
    if isinstance(schema, dict):
        kept = {k: without_logical_types(v) for k, v in schema.items() if k != "logicalType"}
        return kept["type"] if set(kept) == {"type"} and isinstance(kept["type"], str) else kept
    if isinstance(schema, list):
        return [without_logical_types(part) for part in schema]
    return schema


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
        self._readers: dict[bytes, tuple[str, Any]] = {}
        for raw in _schemas_in(schemas / "history"):
            self._readers[fingerprint(raw)] = (raw["name"], _parsed(raw))
        for raw in _schemas_in(schemas / "events"):
            mark, parsed = fingerprint(raw), _parsed(raw)
            self._readers[mark] = (raw["name"], parsed)
            self._writers[raw["name"]] = (MAGIC + mark, parsed)

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
            Refusal: the framing or the body is malformed (AVRO_SYNTAX, SCHEMA_UNKNOWN, TOO_LARGE).
            Stop: the framing is right and nobody here knows the schema; readers go before writers.
        """
        name, fields = self.decode_fields(data)
        if name != expected.__name__:
            raise Refusal(Reason.SCHEMA_UNKNOWN, "header")
        try:
            return msgspec.convert(fields, expected, strict=False)
        except msgspec.ValidationError as error:
            raise Refusal(Reason.AVRO_SYNTAX, "body") from error

    def decode_fields(self, data: bytes) -> tuple[str, Mapping[str, Any]]:
        """Decode a message to its schema's name and its fields; raises as `decode` does."""
        if len(data) > MAX_BYTES:
            raise Refusal(Reason.TOO_LARGE, "record")
        if data[:2] != MAGIC or len(data) < HEADER_BYTES:
            raise Refusal(Reason.SCHEMA_UNKNOWN, "header")
        if data[2:HEADER_BYTES] not in self._readers:
            raise Stop("a message has a schema that is not in schemas/: deploy readers first")
        name, schema = self._readers[data[2:HEADER_BYTES]]
        body = io.BytesIO(data[HEADER_BYTES:])
        try:
            fields = fastavro.schemaless_reader(body, schema, None)
        except (EOFError, ValueError, IndexError, TypeError, OverflowError, MemoryError):
            raise Refusal(Reason.AVRO_SYNTAX, "body") from None
        if body.tell() != len(data) - HEADER_BYTES or not isinstance(fields, dict):
            raise Refusal(Reason.AVRO_SYNTAX, f"byte {HEADER_BYTES + body.tell()}")
        return name, fields


def _schemas_in(folder: Path) -> Iterator[Schema]:
    for path in sorted(folder.glob("*.avsc")):
        yield json.loads(path.read_text())


def _parsed(raw: Schema) -> Any:
    return fastavro.parse_schema(without_logical_types(raw))


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
    )
}
"""The event of each schema, by name."""
