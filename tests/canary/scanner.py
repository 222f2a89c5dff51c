"""Finds marks in bytes and files: as they are, encoded, and inside what is compressed."""

import os
from collections.abc import Iterator
from pathlib import Path

from canary.needles import Mark, needles
from canary.packing import unpacked

DEEPEST = 3


class Scanner:
    """Searches for one mark."""

    def __init__(self, mark: Mark) -> None:
        self._needles = needles(mark)

    def found(self, data: bytes, depth: int = 0) -> frozenset[str]:
        """Name the encodings in which the mark stands; inside a container as `gzip/plain`."""
        names = {
            name
            for name, written in self._needles.items()
            if any(needle in data for needle in written)
        }
        if depth < DEEPEST:
            for container, inside in unpacked(data):
                names |= {f"{container}/{name}" for name in self.found(inside, depth + 1)}
        return frozenset(names)


def content(path: Path) -> bytes:
    """Read a file without its holes: indexes of Kafka are megabytes of them."""
    with path.open("rb") as file:
        return b"".join(_parts(file.fileno()))


def _parts(handle: int) -> Iterator[bytes]:
    at, size = 0, os.fstat(handle).st_size
    while at < size:
        try:
            begin = os.lseek(handle, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole is left
            return
        at = os.lseek(handle, begin, os.SEEK_HOLE)
        yield os.pread(handle, at - begin, begin)
