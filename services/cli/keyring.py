"""A key file gets another line: all of it or nothing, and no two hands at once."""

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.core.errors import CommandError
from services.core.faults import Fault
from services.runtime.vault import Epoch, line_of, read_epochs

KEY_BYTES: Final = 32
MODE: Final = 0o600


def append(path: Path, known: Sequence[Epoch], since: int) -> list[Epoch]:
    """Append a new key: the file is replaced by one that has a line more.

    Args:
        path: of the key file.
        known: its epochs as they were shown.
        since: from when the new key seals, µs since the epoch.

    Returns:
        All epochs.

    Raises:
        CommandError: the file cannot be written, or is another one by now.
    """
    try:
        with _alone(path.parent):
            if read_epochs(path) != list(known):
                raise CommandError(
                    f"Key file {path} was changed meanwhile.",
                    "Look at `vigil keys list` and decide anew.",
                    Fault.KEY_FILE,
                )
            epoch = Epoch(secrets.token_bytes(KEY_BYTES), since)
            _replace(path, path.read_text(encoding="ascii").rstrip() + "\n" + line_of(epoch))
    except OSError as error:
        raise CommandError(
            f"Key file {path} cannot be written: {error.strerror}.",
            "Append the key where the file is kept, as its owner.",
            Fault.KEY_FILE,
        ) from None
    return [*known, epoch]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    new, before = path.with_name(f"{path.name}.new"), path.stat()
    handle = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, MODE)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        os.fchmod(handle, MODE)
        if os.geteuid() == 0:
            os.fchown(handle, before.st_uid, before.st_gid)  # it stays its owner's
        file.write(text)
        file.flush()
        os.fsync(handle)
    new.replace(path)
