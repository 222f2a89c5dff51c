"""Avro's binary encoding by hand: for the few events of which there are thousands a second.

`runtime.codec` writes every event; a service that writes one kind by the thousand lays its fields
out itself, from these parts. A test holds the bytes against those of the codec.
"""

from functools import lru_cache
from struct import Struct
from typing import Final

_REMEMBERED: Final = 8192
NONE: Final = b"\x00"
"""The first branch of a union: null."""
SOME: Final = b"\x02"
"""The second branch of a union; its value follows."""
_END: Final = b"\x00"
_EIGHT_BYTES: Final = range(1 << 49, 1 << 56)
_GROUPS: Final = [(n & 0x7F | 0x80) | (n >> 7 | 0x80) << 8 for n in range(1 << 14)]
"""Two groups of seven bits, more of them to come, as a little-endian 16-bit number."""
_TWO_GROUPS: Final = 1 << 14
_ENDS: Final = [
    bytes([n]) if n < 1 << 7 else bytes([n & 0x7F | 0x80, n >> 7]) for n in range(_TWO_GROUPS)
]
"""The last one or two groups of a number."""
_pack1: Final = Struct("<H").pack
_pack4: Final = Struct("<4H").pack


def long(number: int) -> bytes:
    r"""Write a number as Avro does: zigzag, then seven bits a byte, the lowest first.

    >>> long(-1), long(64)
    (b'\x01', b'\x80\x01')
    """
    zigzag = number << 1 if number >= 0 else ~(number << 1)
    if zigzag in _EIGHT_BYTES:  # every time of this century
        last = zigzag >> 42
        return _pack4(
            _GROUPS[zigzag & 0x3FFF],
            _GROUPS[zigzag >> 14 & 0x3FFF],
            _GROUPS[zigzag >> 28 & 0x3FFF],
            last & 0x7F | 0x80 | last >> 7 << 8,
        )
    written = b""
    while zigzag >= _TWO_GROUPS:
        written += _pack1(_GROUPS[zigzag & 0x3FFF])
        zigzag >>= 14
    return written + _ENDS[zigzag]


_KNOWN: Final = 4096
_LENGTHS: Final = [long(n) for n in range(_KNOWN)]


def number(value: int) -> bytes:
    """Write a number that is mostly small; the bytes are those of `long`."""
    return _LENGTHS[value] if 0 <= value < _KNOWN else long(value)


def blob(data: bytes) -> bytes:
    """Write bytes, their length before them."""
    length = len(data)
    return (_LENGTHS[length] if length < _KNOWN else long(length)) + data


@lru_cache(
    _REMEMBERED
)  # sources, codes, units, devices, cohorts: a ward has a few hundred of them
def text(word: str) -> bytes:
    """Write a word that comes again and again."""
    return blob(word.encode())


@lru_cache(_REMEMBERED)  # most events have one reading
def _alone(word: str) -> bytes:
    return number(1) + text(word) + _END


def texts(words: list[str]) -> bytes:
    """Write a list of words that come again and again."""
    if len(words) == 1:
        return _alone(words[0])
    if not words:
        return _END
    return b"".join([number(len(words)), *[text(word) for word in words], _END])
