"""Names for people and things outside the PHI zone: keyed hashes that only the key's holder makes.

A hash is HMAC-SHA-256 over its parts, each preceded by its length (4 bytes, big-endian), so that
no two lists of parts give the same bytes. A patient's has two parts; every other kind begins with
a tag and has three, so that no kind is ever mistaken for another.
"""

import hashlib
import hmac
from collections.abc import Callable
from functools import lru_cache
from typing import Final

KEY_BYTES: Final = 32
"""Length of a key."""
_LENGTH_BYTES: Final = 4
_BLOCK_BYTES: Final = 64  # of SHA-256; a key is shorter
_SHORT: Final = 200  # characters of a name that is remembered: nobody fills the memory
_REMEMBERED: Final = 8192  # a ward writes about the same patients all day


def parse_key(text: str) -> bytes:
    """Read a key as key files hold it: 64 hex digits, perhaps a line end.

    Raises:
        ValueError: it is something else; the text is not repeated.

    >>> len(parse_key("ab" * 32))
    32
    """
    digits = text.strip()
    if len(digits) != 2 * KEY_BYTES:
        raise ValueError("a key is 64 hex digits")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise ValueError("a key is 64 hex digits") from None


@lru_cache(maxsize=_REMEMBERED)
def patient_pseudonym(key: bytes, source: str, identifier: str) -> bytes:
    """Name a patient: 16 bytes.

    Args:
        key: the pseudonym key, 32 bytes.
        source: id of the authenticated source; the same identifier elsewhere is someone else.
        identifier: the logical Patient id at that source.
    """
    return _hashed(key, source, identifier)[:16]


@lru_cache(maxsize=_REMEMBERED)
def encounter_pseudonym(key: bytes, source: str, identifier: str) -> bytes:
    """Name an encounter: 16 bytes; arguments as for a patient."""
    return _hashed(key, "encounter", source, identifier)[:16]


def reading_id(key: bytes, source: str, identifier: str) -> bytes:
    """Name an Observation: 8 bytes; the same resource has the same name in every version."""
    return reading_ids(key, source)(identifier)


def device_name(key: bytes, source: str, reference: str) -> str:
    """Name a device: 16 hex digits."""
    named = _device_name if len(reference) <= _SHORT else _device_name.__wrapped__
    return named(key, source, reference)


@lru_cache(maxsize=_REMEMBERED)
def _device_name(key: bytes, source: str, reference: str) -> str:
    return _hashed(key, "device", source, reference)[:8].hex()


def place_name(key: bytes, source: str, name: str) -> str:
    """Name a unit whose own name must not be told: `unit-` and 8 hex digits."""
    return f"unit-{_hashed(key, 'place', source, name)[:4].hex()}"


def statement_name(key: bytes, source: str, identifier: str) -> str:
    """Name what somebody said of an alert or a stay: 32 hex digits."""
    return _hashed(key, "statement", source, identifier)[:16].hex()


def _hashed(key: bytes, *parts: str) -> bytes:
    return hmac.digest(key, b"".join([_part(part) for part in parts]), "sha256")


def _part(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


@lru_cache(maxsize=256)  # one per source
def reading_ids(key: bytes, source: str) -> Callable[[str], bytes]:
    """Give what names the Observations of a source, as `reading_id` does one.

    It is HMAC-SHA-256 (RFC 2104) of texts that begin alike: key and beginning are hashed once.
    """
    block = key.ljust(_BLOCK_BYTES, b"\0")
    begin = _part("observation") + _part(source)
    begun = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + begin).copy
    outside = hashlib.sha256(bytes(byte ^ 0x5C for byte in block)).copy

    def name(identifier: str) -> bytes:
        inner, outer, encoded = begun(), outside(), identifier.encode()
        inner.update(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)
        outer.update(inner.digest())
        return outer.digest()[:8]

    return name
