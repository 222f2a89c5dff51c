"""What the gateway says about a raw record, from the record's headers."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from services.core.errors import Reason, Refusal
from services.ingest.normalise.findings import Message

TICK: Final = "application/vnd.vigil.tick+json"
FHIR: Final = frozenset({"application/fhir+json", "application/json"})
REQUIRED: Final = ("content-type", "source", "received_at", "accepted_at", "ingest_id")
UNKNOWN_SOURCE: Final = "unknown"
_DIGITS: Final = 18
_TIME: Final = re.compile(rb"[0-9]{1,%d}" % _DIGITS)
_FORMS: Final = {
    "content-type": re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?"),
    "source": re.compile(rb"[a-z0-9-]{1,32}"),
    "received_at": _TIME,
    "accepted_at": _TIME,
    "ingest_id": re.compile(rb"[0-9a-f]{32}|replay-[0-9]{1,9}-[0-9]{1,18}-[0-9a-f]{16}"),
}
"""As the gateway writes them; no other text of a header leaves the PHI zone."""
_is_kind: Final = _FORMS["content-type"].fullmatch
_is_source: Final = _FORMS["source"].fullmatch
_is_ingest_id: Final = _FORMS["ingest_id"].fullmatch

Headers = Sequence[tuple[str, bytes | None]]


def message_of(
    headers: Headers, body: bytes | None, *, partition: int, offset: int
) -> tuple[str, Message]:
    """Give the media type of a raw record, and the message.

    Raises:
        Refusal: TOMBSTONE for a record without a body; HEADER where one that is required is
            missing, repeated, or not of the form in which the gateway writes it.
    """
    told = _as_written(headers) or _told(headers)
    content_type, source, received_at, accepted_at, ingest_id = told
    if body is None:
        raise Refusal(Reason.TOMBSTONE, "record")
    message = Message(
        body=body,
        source=source,
        received_at=int(received_at),
        accepted_at=int(accepted_at),
        ingest_id=ingest_id,
        partition=partition,
        offset=offset,
    )
    return _media_type(content_type), message


@lru_cache(256)  # senders have a few, of bounded length
def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


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


def _as_written(headers: Headers) -> tuple[str, str, bytes, bytes, str] | None:
    """Give what the headers of REQUIRED say where they stand as the gateway writes them."""
    if len(headers) != len(REQUIRED):
        return None
    (n0, kind), (n1, source), (n2, received), (n3, accepted), (n4, ingest) = headers
    if (n0, n1, n2, n3, n4) != REQUIRED or not (received and accepted and ingest):
        return None
    if len(received) > _DIGITS or len(accepted) > _DIGITS or not _is_ingest_id(ingest):
        return None
    if not (received.isdigit() and accepted.isdigit()):
        return None
    try:
        return *_sender(kind, source), received, accepted, ingest.decode()
    except ValueError:
        return None


@lru_cache(1024)  # of what is not of its form, nothing is remembered
def _sender(kind: bytes | None, source: bytes | None) -> tuple[str, str]:
    if not (_is_kind(kind or b"") and _is_source(source or b"")):
        raise ValueError("not as the gateway writes it")
    return (kind or b"").decode(), (source or b"").decode()


def _told(headers: Headers) -> list[str]:
    """Give what the headers of REQUIRED say, in its order, wherever they stand."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name not in REQUIRED:
            continue
        if name in found or value is None or not _FORMS[name].fullmatch(value):
            raise Refusal(Reason.HEADER, name)
        found[name] = value.decode()
    for name in REQUIRED:
        if name not in found:
            raise Refusal(Reason.HEADER, name)
    return [found[name] for name in REQUIRED]
