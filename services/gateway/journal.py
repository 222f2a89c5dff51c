"""Records on disk, sealed: what was accepted while Kafka is away, in the order it was accepted.

A segment is a file `<journal>-<number of its first record>.log` of frames: length of what is
sealed, CRC-32 of it, epoch of the key, then the sealed bytes. A record's number is its place; it
is sealed together with it, so that no frame can be moved or copied.
"""

import fcntl
import os
import re
import secrets
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from services.core.errors import Retry, Stop
from services.gateway.disk import sync_folder, write_all
from services.runtime.vault import Vault

FRAME: Final = Struct(">III")
SEGMENT_BYTES: Final = 16 << 20
"""A segment is closed when it is longer: only whole ones are given back to the disk."""
_NAME: Final = re.compile(r"([0-9a-f]{16})-(\d{20})\.log")


class _Segment:
    """One file: where its records begin and end."""

    def __init__(self, path: Path, first: int) -> None:
        self.path, self.first = path, first
        self.places = array("Q", [0])

    @property
    def last(self) -> int:
        """The number after its last record."""
        return self.first + len(self.places) - 1

    @property
    def size(self) -> int:
        return self.places[-1]


class Journal:
    """The records that one gateway keeps; used by one thread at a time.

    What `append` returned for is on the disk. What was being written when a life ended is cut off
    by the next: nobody was told that it was accepted.
    """

    def __init__(
        self, folder: Path, vault: Callable[[], Vault], *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        """Open the journal of a folder, which is made for its owner alone.

        Args:
            folder: of one gateway.
            vault: gives what seals and opens; keys stay as long as what they sealed does.
            segment_bytes: about how long a file gets.

        Raises:
            OSError: the folder cannot be used, or another process uses it.
            Stop: a file other than the last is damaged.
        """
        self._folder, self._vault, self._segment_bytes = folder, vault, segment_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._segments, self.name = _found(folder)
        except BaseException:
            os.close(self._lock)
            raise
        sync_folder(folder.parent)
        self._file: int | None = None
        self._broken = False
        self.next = self._segments[-1].last if self._segments else 0
        """The number of the next record."""

    @property
    def first(self) -> int:
        """The number of the oldest record that is kept, or `next`."""
        return self._segments[0].first if self._segments else self.next

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(segment.size for segment in self._segments)

    def append(self, plain: Sequence[bytes]) -> None:
        """Return when all of it is on the disk.

        Raises:
            OSError: it is not; what came before still is.
        """
        vault = self._vault()  # one look at the key file for all
        frames = [self._frame(vault, body, self.next + place) for place, body in enumerate(plain)]
        segment, file = self._open()
        try:
            write_all(file, b"".join(frames))
            os.fdatasync(file)
        except OSError:
            self._give_up(segment)
            raise
        for frame in frames:
            segment.places.append(segment.size + len(frame))
        self.next += len(frames)
        if segment.size >= self._segment_bytes:
            self._close()

    def read(self, number: int, *, most_bytes: int) -> list[bytes]:
        """Give records from a number on: at least one if there is one, all from one file.

        Raises:
            Retry: the disk does not give it back.
            CommandError: the key that it was sealed with is gone.
        """
        segment = next((s for s in self._segments if s.first <= number < s.last), None)
        if segment is None:
            return []
        places, at = segment.places, number - segment.first
        through = max(bisect_right(places, places[at] + most_bytes) - 1, at + 1)
        with segment.path.open("rb") as file:
            file.seek(places[at])
            data = file.read(places[through] - places[at])
        bounds = [place - places[at] for place in places[at : through + 1]]
        vault = self._vault()
        return [
            self._body(vault, data[begin:end], number + place)
            for place, (begin, end) in enumerate(pairwise(bounds))
        ]

    def forget(self, number: int) -> None:
        """Give the files back to the disk that hold nothing from a number on."""
        while self._segments and self._segments[0].last <= number:
            if len(self._segments) == 1:
                self._close()
            self._segments.pop(0).path.unlink()

    def close(self) -> None:
        """Let another process have the folder."""
        self._close()
        os.close(self._lock)

    def _frame(self, vault: Vault, body: bytes, number: int) -> bytes:
        sealed = vault.seal(body, self._context(number))
        return FRAME.pack(len(sealed), crc32(sealed), vault.epoch) + sealed

    def _body(self, vault: Vault, frame: bytes, number: int) -> bytes:
        length, checksum, epoch = FRAME.unpack_from(frame)
        sealed = frame[FRAME.size :]
        if len(sealed) != length or crc32(sealed) != checksum:
            raise Retry("the disk does not give back what the outbox holds")
        return vault.open(epoch, sealed, self._context(number))

    def _context(self, number: int) -> bytes:
        return f"outbox/{self.name}/{number}".encode()

    def _give_up(self, segment: _Segment) -> None:
        """Go on with another file: the kernel may have dropped what it could not write.

        Where not even the end of this one can be cut off, nothing more is taken in this life.
        """
        self._broken = True
        self._close()
        if segment.size:
            _cut(segment.path, segment.size)
        self._broken = False

    def _open(self) -> tuple[_Segment, int]:
        if self._broken:
            raise OSError("the outbox could not be mended")
        if self._file is None:
            path = self._folder / f"{self.name}-{self.next:020d}.log"
            self._file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            sync_folder(self._folder)
            self._segments.append(_Segment(path, self.next))
        return self._segments[-1], self._file

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
            if self._segments and not self._segments[-1].size:
                self._segments.pop().path.unlink(missing_ok=True)


def _found(folder: Path) -> tuple[list[_Segment], str]:
    """Find the segments that an earlier life left, and the journal's name."""
    paths = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    names = {path.name[:16] for path in paths}
    if len(names) > 1:
        raise Stop(f"the outbox {folder} holds files of two gateways")
    segments = [_scanned(path, last=path is paths[-1]) for path in paths]
    for segment, following in pairwise(segments):
        if segment.last != following.first:
            raise Stop(f"the outbox is damaged: {segment.path}")
    full = [segment for segment in segments if segment.size]
    for segment in segments[len(full) :]:
        segment.path.unlink()
    # With no record left a new name is begun: the numbers that the old one has reached are gone.
    return full, names.pop() if full else secrets.token_hex(8)


def _scanned(path: Path, *, last: bool) -> _Segment:
    """Find the frames of a file; the unfinished end of the last one is cut off."""
    segment = _Segment(path, int(path.name[17:37]))
    data = path.read_bytes()
    while (place := _after(data, segment.size)) is not None:
        segment.places.append(place)
    if segment.size < len(data):
        if not last:
            raise Stop(f"the outbox is damaged: {path}")
        _cut(path, segment.size)
    return segment


def _after(data: bytes, place: int) -> int | None:
    """Say where the frame at a place ends; None if no whole one is there."""
    start = place + FRAME.size
    if start > len(data):
        return None
    length, checksum, _ = FRAME.unpack_from(data, place)
    sealed = data[start : start + length]
    return start + length if len(sealed) == length and crc32(sealed) == checksum else None


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())
