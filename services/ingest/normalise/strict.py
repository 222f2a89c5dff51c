"""JSON as strictly as a vital sign deserves: what parsers silently mend is refused here."""

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import msgspec
import numpy as np

from services.core.errors import Reason, Refusal

MAX_BYTES: Final = 1 << 20
"""No body is longer: 1 MiB."""
MAX_DEPTH: Final = 32
"""No document is nested deeper."""
TOO_GREAT: Final = 1e18
"""No number of a document is greater: FHIR decimals have at most 18 digits."""
TOO_SMALL: Final = 1e-300
"""A number nearer to 0 lost digits in a float64, or became 0."""

_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
"""How gzip, zstd and lz4 begin: nothing is expanded here, whatever it may hold."""
_BOM: Final = b"\xef\xbb\xbf"
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_STEP: Final = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_BACKSLASH: Final = ord("\\")  # a number is found many times faster than a byte string
_QUOTE: Final = ord('"')
_LONG: Final = 8192
"""From so many bytes on an array is compared sooner than quotes are found one by one."""
_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_LONGEST_INTEGER: Final = 19
T = TypeVar("T")
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode
_encode_into: Final = msgspec.json.Encoder().encode_into


def parse(body: bytes) -> Any:
    """Parse a JSON document.

    The fast parser keeps the last of two equal keys. What it kept is written again: no string has
    gone exactly if both texts have as many quotes that are not escaped. Numbers outside float64
    are refused here, the other limits of numbers where one is read (`observation.py`).

    Raises:
        Refusal: TOO_LARGE, DECOMP_BOMB, ENCODING, JSON_DEPTH, JSON_SYNTAX, JSON_NONFINITE,
            JSON_DUP_KEY, NUM_OVERFLOW, NUM_UNDERFLOW or NUM_RANGE.
    """
    check(body)
    try:
        content = _decode(body)
        again = _encode(content)
    except (msgspec.MsgspecError, OverflowError, RecursionError) as error:
        _refuse(body, error)
    if _quotes(body) != _quotes(again):
        raise Refusal(Reason.JSON_DUP_KEY, "document")
    return content


def faithful(
    body: bytes, decode: Callable[[bytes], T], buffer: bytearray | None = None
) -> T | None:
    """Parse a document by a typed decoder; None where it does not fit, or would lose an element.

    As in `parse`: no element and no second key has gone exactly if what was read, written again,
    has as many quotes. So an element that has its default value must not be written.

    Args:
        body: the document.
        decode: of the decoder.
        buffer: to write again in, by those who read one after the other.
    """
    again = bytearray() if buffer is None else buffer
    try:
        content = decode(body)
        _encode_into(content, again)
    except (msgspec.MsgspecError, OverflowError, RecursionError, UnicodeError):
        return None
    if _BACKSLASH in body:
        return content if _quotes(body) == _quotes(again) else None
    return content if _all_quotes(body) == _all_quotes(again) else None


def inspect(body: bytes) -> None:
    """Look at every key and every number of a document; slow, and exact about each number.

    Raises:
        Refusal: as `parse`, the limits of numbers included.
    """
    try:
        _careful(body.decode())
    except json.JSONDecodeError as error:
        raise Refusal(Reason.JSON_SYNTAX, f"character {error.pos}") from None
    except RecursionError:
        raise Refusal(Reason.JSON_DEPTH, "document") from None


def check(body: bytes) -> None:
    """Refuse what no parser should see: TOO_LARGE, DECOMP_BOMB, ENCODING or JSON_DEPTH."""
    if len(body) > MAX_BYTES:
        raise Refusal(Reason.TOO_LARGE, "document")
    if not body.isascii():
        _check_encoding(body)
    if _is_deep(body):
        raise Refusal(Reason.JSON_DEPTH, "document")


def _check_encoding(body: bytes) -> None:
    if body.startswith(_COMPRESSED):
        raise Refusal(Reason.DECOMP_BOMB, "byte 0")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Refusal(Reason.ENCODING, f"byte {error.start}") from None
    if body.startswith(_BOM):
        raise Refusal(Reason.ENCODING, "byte 0")


def _is_deep(body: bytes) -> bool:
    """Say whether a document is too deep; one that is no JSON may be called either."""
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return False
    brackets = body.translate(None, _NOT_BRACKETS)
    if len(brackets) <= 2 * MAX_DEPTH or not _peeled(brackets):
        return False
    depth = 0
    for token in _TOKEN.finditer(body):
        depth += _STEP.get(token[0], 0)
        if depth > MAX_DEPTH:
            return True
    return False


def _peeled(brackets: bytes) -> bytes:
    """Take the innermost pairs off as often as the depth allows; the rest is too deep, or text."""
    for _ in range(MAX_DEPTH):
        inner = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(inner) == len(brackets):
            return inner
        brackets = inner
    return brackets


def _all_quotes(text: bytes | bytearray) -> int:
    if len(text) < _LONG:
        return text.count(b'"')
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == _QUOTE))


def _quotes(text: bytes | bytearray) -> int:
    """Count the quotes that begin or end a string."""
    return (_ESCAPE.sub(b"", text) if _BACKSLASH in text else text).count(b'"')


def _refuse(body: bytes, error: Exception) -> NoReturn:
    """Say why the fast parser stopped."""
    inspect(body)
    found = _BYTE.search(str(error))
    place = f"byte {found[1]}" if found else "document"
    raise Refusal(Reason.ENCODING if _SURROGATE.search(body) else Reason.JSON_SYNTAX, place)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise Refusal(Reason.JSON_DUP_KEY, "document")
    return content


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Refusal(Reason.NUM_OVERFLOW, "document")
    if abs(value) >= TOO_GREAT:
        raise Refusal(Reason.NUM_RANGE, "document")
    if abs(value) < TOO_SMALL and set(text.lower().partition("e")[0]) - set("-0."):
        raise Refusal(Reason.NUM_UNDERFLOW, "document")
    return value


def _integer(text: str) -> float:
    if len(text) > _LONGEST_INTEGER:
        raise Refusal(Reason.NUM_RANGE, "document")
    return float(text)


def _constant(_: str) -> NoReturn:
    raise Refusal(Reason.JSON_NONFINITE, "document")


_careful: Final = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_number, parse_int=_integer, parse_constant=_constant
).decode
