"""What an HTTP request asks of ClickHouse: the query, the rows that came with it, the settings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from typing import Final

# Parameters of the HTTP interface that are not settings of the engine.
RESERVED: Final = frozenset(
    {"buffer_size", "client_protocol_version", "compress", "database", "decompress"}
    | {"default_format", "password", "query", "query_id", "quota_key", "role", "user"}
    | {"session_check", "session_id", "session_timeout", "wait_end_of_query"}
)
QUOTED: Final = re.compile(rb"`[^`]*`|'(?:[^'\\]|\\.)*'")
INSERT: Final = re.compile(
    rb"\s*(INSERT\s+INTO\b.*?)\s+FORMAT\s+(\w+)[ \t\f]*(?:\r?\n|$)", re.IGNORECASE | re.DOTALL
)
NO_ROWS: Final = re.compile(rb"\b(SELECT|WITH|VALUES|INFILE)\b", re.IGNORECASE)
FORMAT: Final = re.compile(
    rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s[^)]*)?;?\s*$", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One request, ready for the engine.

    Args:
        query: SQL as bytes, since a bound String may hold any byte.
        rows: data of an INSERT in `format`; None for every other query.
        format: of the rows for an INSERT, else of the answer.
        database: the one that bare table names mean.
        settings: engine settings of this request alone.
        parameters: values of `{name:Type}`, escaped as ClickHouse wants them.
    """

    query: bytes
    rows: bytes | None
    format: str
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]


def statement(fields: Mapping[str, str], body: bytes, *, read_only: bool) -> Statement:
    """Reads a request as ClickHouse does: the text is the query field, then the body.

    Args:
        fields: of the URL and of the form.
        body: decompressed.
        read_only: true for GET, which must change nothing.
    """
    text = b"\n".join(part for part in (fields.get("query", "").encode(), body) if part)
    query, rows, named = _split(text)
    settings = {
        k: v for k, v in fields.items() if k not in RESERVED and not k.startswith("param_")
    }
    return Statement(
        query=query,
        rows=rows,
        format=named or fields.get("default_format", "TabSeparated"),
        database=fields.get("database", ""),
        settings={**settings, **_limit(settings)} if read_only else settings,
        parameters={k[6:]: v for k, v in fields.items() if k.startswith("param_")},
    )


def _limit(settings: Mapping[str, str]) -> dict[str, str]:
    return {"readonly": "1" if settings.get("readonly") == "1" else "2"}


def form(content_type: str, body: bytes) -> dict[str, str]:
    """Fields of a multipart form, which clients send when parameters outgrow the URL."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    return dict(_field(part) for part in message_from_bytes(head + body).walk() if _named(part))


def _named(part: Message) -> bool:
    return part.get_param("name", header="content-disposition") is not None


def _field(part: Message) -> tuple[str, str]:
    payload = part.get_payload(decode=True)
    text = payload.decode() if isinstance(payload, bytes) else ""
    return str(part.get_param("name", header="content-disposition")), text


def _split(text: bytes) -> tuple[bytes, bytes | None, str]:
    insert = INSERT.match(text)
    if insert and not NO_ROWS.search(QUOTED.sub(b"", insert[1])):
        return insert[1], text[insert.end() :], insert[2].decode()
    answer = FORMAT.search(text)
    return text, None, answer[1].decode() if answer else ""
