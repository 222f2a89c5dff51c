"""What the gateway says about a raw record, from the record's headers."""

import re
from collections.abc import Iterable
from typing import Final

from services.core.errors import Reason, Refusal
from services.ingest.normalise.findings import Message

TICK: Final = "application/vnd.vigil.tick+json"
FHIR: Final = frozenset({"application/fhir+json", "application/json"})
REQUIRED: Final = ("content-type", "source", "received_at", "accepted_at", "ingest_id")
UNKNOWN_SOURCE: Final = "unknown"
_TOLD: Final = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")
_MICROSECONDS: Final = re.compile(r"\d{1,18}")

Headers = Iterable[tuple[str, bytes | None]]


def message_of(
    headers: Headers, body: bytes | None, *, partition: int, offset: int
) -> tuple[str, Message]:
    """Give the media type of a raw record, and the message.

    Raises:
        Refusal: TOMBSTONE for a record without a body; HEADER where one that is required is
            missing, repeated, longer than 128 bytes or not ASCII, or is no time.
    """
    told = _told(headers)
    if body is None:
        raise Refusal(Reason.TOMBSTONE, "record")
    message = Message(
        body=body,
        source=told["source"],
        received_at=_time(told, "received_at"),
        accepted_at=_time(told, "accepted_at"),
        ingest_id=told["ingest_id"],
        partition=partition,
        offset=offset,
    )
    return told["content-type"].partition(";")[0].strip().lower(), message


def unnamed(body: bytes | None, timestamp_ms: int, *, partition: int, offset: int) -> Message:
    """Give a message that nothing is known about but its place in the log and Kafka's time."""
    at = timestamp_ms * 1000
    return Message(
        body=body or b"",
        source=UNKNOWN_SOURCE,
        received_at=at,
        accepted_at=at,
        ingest_id=f"{partition}-{offset}",
        partition=partition,
        offset=offset,
    )


def _told(headers: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        if name not in REQUIRED:
            continue
        if name in found or value is None or not _TOLD.fullmatch(value):
            raise Refusal(Reason.HEADER, name)
        found[name] = value.decode()
    for name in REQUIRED:
        if name not in found:
            raise Refusal(Reason.HEADER, name)
    return found


def _time(told: dict[str, str], name: str) -> int:
    if not _MICROSECONDS.fullmatch(told[name]):
        raise Refusal(Reason.HEADER, name)
    return int(told[name])
