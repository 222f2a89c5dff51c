"""Bytes and names that are on the disk when a call returns."""

import os
from pathlib import Path


def write_all(file: int, data: bytes) -> None:
    """Write all of it; only a sync after it makes it last.

    Raises:
        OSError: a part of it may be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk.

    Raises:
        OSError: they may not be.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
