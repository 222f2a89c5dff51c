"""What compressed bytes hold: gzip, LZ4 and Zstandard anywhere, and blocks of ClickHouse."""

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from struct import Struct

import lz4.block  # type: ignore[import-untyped]  # it has no types
import lz4.frame  # type: ignore[import-untyped]  # as above

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
}
"""Every container that is looked into."""
LARGEST = 64 << 20
_BLOCK = Struct("<16xBII")  # checksum, method, size with this header but the checksum, size inside
_LZ4 = 0x82
_HEAD = 9
_CHECKSUM = 16


def _gunzip(data: bytes) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, LARGEST)


def _unlz4(data: bytes) -> bytes:
    unpack = lz4.frame.LZ4FrameDecompressor()
    return bytes(unpack.decompress(data, max_length=LARGEST))


def _unzstd(data: bytes) -> bytes:
    return zstd.ZstdDecompressor().decompress(data, LARGEST)


_MAGIC: dict[str, tuple[bytes, Callable[[bytes], bytes], type[Exception]]] = {
    "gzip": (b"\x1f\x8b\x08", _gunzip, zlib.error),
    "lz4": (b"\x04\x22\x4d\x18", _unlz4, RuntimeError),
    "zstd": (b"\x28\xb5\x2f\xfd", _unzstd, zstd.ZstdError),
}


def unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Give what is compressed somewhere in bytes, with the name of how."""
    for name, (magic, unpack, fault) in _MAGIC.items():
        at = data.find(magic)
        while at >= 0:
            try:
                inside = unpack(data[at:])
            except fault:  # these bytes stood there by chance
                inside = b""
            if inside:
                yield name, inside
            at = data.find(magic, at + 1)
    for inside in _blocks(data):
        yield "lz4", inside


def block_of(text: bytes) -> bytes:
    """Pack a text as ClickHouse does a column."""
    packed: bytes = lz4.block.compress(text, store_size=False)
    return bytes(_CHECKSUM) + _BLOCK.pack(_LZ4, len(packed) + _HEAD, len(text))[16:] + packed


def _blocks(data: bytes) -> Iterator[bytes]:
    """Give the blocks of a column of ClickHouse, which are raw LZ4; others begin with a magic."""
    at = 0
    while at + _BLOCK.size <= len(data):
        method, size, inside = _BLOCK.unpack_from(data, at)
        end = at + _CHECKSUM + size
        if size < _HEAD or end > len(data) or not 0 < inside <= LARGEST:
            return
        if method == _LZ4:
            try:
                packed = data[at + _CHECKSUM + _HEAD : end]
                yield lz4.block.decompress(packed, uncompressed_size=inside)
            except lz4.block.LZ4BlockError:
                return
        at = end
