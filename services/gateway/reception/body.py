"""Whether a body may come in: its media type, and that it is one JSON object.

Ingest judges the rest. A body is looked at and never changed: the log keeps what was sent.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from services.core.errors import Reason
from services.gateway.reception.answers import Rejected

MAX_BYTES: Final = 1 << 20
"""The longest body that is taken."""
MEDIA_TYPES: Final = frozenset({"application/fhir+json", "application/json"})
IDENTITY: Final = frozenset({"", "identity"})
WHITESPACE: Final = b" \t\n\r"


class _Head(msgspec.Struct, gc=False):
    """All of an object is read, and this is kept."""

    type: msgspec.Raw = msgspec.Raw()


_JSON: Final = msgspec.json.Decoder(msgspec.Raw)
_OBJECT: Final = msgspec.json.Decoder(_Head)
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)


def media_type(headers: Mapping[str, str]) -> str:
    """Give the media type of a request.

    Raises:
        Rejected: it is not FHIR JSON in UTF-8, or the body is compressed (415).
    """
    stated = headers.get("content-type", "")
    kind = stated.partition(";")[0].strip().lower()
    charset = _CHARSET.search(stated)
    if kind not in MEDIA_TYPES or (charset and charset[1].lower() != "utf-8"):
        raise Rejected(415, "header Content-Type", Reason.HEADER)
    if headers.get("content-encoding", "").lower() not in IDENTITY:
        raise Rejected(415, "header Content-Encoding", Reason.HEADER)
    return kind


def check_object(body: bytes) -> bytes:
    """Require one JSON object in UTF-8, and give what it states as its `type`.

    Returns:
        The type as it is written, with its quotes; empty where there is none. Of a Bundle it says
        what the whole is for.

    Raises:
        Rejected: with the byte at which it is none (400).
    """
    try:
        if not body.isascii():
            body.decode()
        return bytes(_head(body).type)
    except UnicodeDecodeError as error:
        raise Rejected(400, f"byte {error.start}", Reason.ENCODING) from None
    except msgspec.ValidationError:
        start = len(body) - len(body.lstrip(WHITESPACE))
        raise Rejected(400, f"byte {start}", Reason.FHIR_TYPE) from None
    except msgspec.DecodeError as error:
        raise Rejected(400, _place(str(error), body), Reason.JSON_SYNTAX) from None
    except RecursionError:
        raise Rejected(400, "body", Reason.JSON_DEPTH) from None


def _head(body: bytes) -> _Head:
    try:
        return _OBJECT.decode(body)
    except msgspec.ValidationError:
        _JSON.decode(body)  # what is no JSON at all is told first
        raise


def _place(complaint: str, body: bytes) -> str:
    byte = _BYTE.search(complaint)
    return f"byte {byte[1] if byte else len(body)}"
