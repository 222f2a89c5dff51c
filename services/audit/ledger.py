"""The chain of the ledger: what of a record is proved, and how each record holds the one before.

Every field of `rec` is its length (4 bytes, big-endian) and its bytes; a null has the length
0xFFFFFFFF and no bytes. Numbers are 8 bytes, big-endian, two's complement.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

GENESIS: Final = bytes(32)
"""What stands before the first record of a chain."""
NULL: Final = b"\xff\xff\xff\xff"
"""The length of a field that is not there."""
_NUMBER: Final = struct.Struct(">Iq")
_PLACE: Final = struct.Struct(">IqIqIq")


class Withheld(msgspec.Struct, frozen=True):
    """What the ledger keeps in place of a value of the PHI zone."""

    length: int  # -1: the record had no value
    sha256: bytes


class Fact(msgspec.Struct, frozen=True):
    """What of one record is proved, beside the chain it stands in."""

    offset: int
    timestamp_type: int  # 0 none, 1 create time, 2 log append time
    timestamp_ms: int
    key: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes | Withheld | None


def withheld(value: bytes | None) -> Withheld:
    """Reduce a value to its length and its SHA-256, which tell nothing of it."""
    length = -1 if value is None else len(value)
    return Withheld(length, hashlib.sha256(value or b"").digest())


def chain_id(cluster_id: str, topic_id: str, partition: int) -> bytes:
    """Give the first three fields of every record of a chain.

    Args:
        cluster_id: Kafka's name of the cluster.
        topic_id: the topic's UUID, 32 hex digits.
        partition: of the topic.
    """
    return _field(cluster_id.encode()) + _field(bytes.fromhex(topic_id)) + _number(partition)


def rec(chain: bytes, fact: Fact) -> bytes:
    """Write a record as the chain covers it.

    Args:
        chain: `chain_id` of the record's chain.
        fact: the record.
    """
    parts = [
        chain,
        _PLACE.pack(8, fact.offset, 8, fact.timestamp_type, 8, fact.timestamp_ms),
        _field(fact.key),
        _number(len(fact.headers)),
    ]
    for name, value in fact.headers:
        parts += (_field(name.encode()), _field(value))
    if isinstance(fact.value, Withheld):
        parts += (_number(fact.value.length), _field(fact.value.sha256))
    else:
        parts.append(_field(fact.value))
    return b"".join(parts)


def leaf(record: bytes) -> bytes:
    """Hash a `rec` to the leaf of a Merkle tree (RFC 6962, section 2.1).

    >>> leaf(b"").hex()
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'
    """
    return hashlib.sha256(b"\x00" + record).digest()


def link(head: bytes, leaf_hash: bytes) -> bytes:
    """Hang a leaf on the chain: h_i = SHA-256(0x02, h_(i-1), leaf_i).

    Args:
        head: h_(i-1), GENESIS for the first record.
        leaf_hash: leaf_i.
    """
    return hashlib.sha256(b"\x02" + head + leaf_hash).digest()


def _field(data: bytes | None) -> bytes:
    return NULL if data is None else len(data).to_bytes(4, "big") + data


def _number(value: int) -> bytes:
    return _NUMBER.pack(8, value)
