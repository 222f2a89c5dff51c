"""One-time tokens that were used, on disk: a later life refuses them too."""

import asyncio
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from services.core.errors import Retry
from services.gateway.disk import sync_folder, write_all
from services.gateway.reception.spent import MOST_REMEMBERED

NAME: Final = "tokens-used"
MOST_LINES: Final = 2 * MOST_REMEMBERED
"""At so many lines the file is written anew, without the tokens that have ended."""
_LINE: Final = re.compile(rb"^(\d{1,12}) ([0-9a-f]{64})$", re.MULTILINE)

log = structlog.stdlib.get_logger()


class UsedTokens:
    """A file of lines, an end in seconds and a token's name each; used by one event loop.

    What a life was writing when it ended is no whole line, or told nobody that it was kept.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], float], *, most_lines: int = MOST_LINES
    ) -> None:
        """Read what earlier lives used and forget what has ended.

        Args:
            folder: of this gateway alone.
            clock: seconds since the epoch.
            most_lines: about how long the file gets.

        Raises:
            OSError: the folder cannot be used.
        """
        self._path, self._clock, self._most_lines = folder / NAME, clock, most_lines
        self._disk = ThreadPoolExecutor(1, "tokens")
        self._file: int | None = None
        self._lines, self._failing = 0, False
        self.before = self._shortened()
        """Names of tokens that were used and have not ended, and when they do."""
        self._unsaved: list[tuple[str, int]] = []
        self._noted = self._saved = 0
        self._saving: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[bool]] = []

    def note(self, name: str, ends_s: int) -> None:
        """Begin to keep the use of a token; `kept` tells when it is."""
        self._unsaved.append((name, ends_s))
        self._noted += 1
        self._begin()

    async def kept(self) -> None:
        """Return when all uses that were noted are on the disk.

        Raises:
            Retry: they are not.
        """
        through = self._noted
        while self._saved < through:
            self._begin()
            ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._waiting.append(ended)
            if not await ended:
                raise Retry("the use of a token cannot be written")

    def _begin(self) -> None:
        if self._saving is None:
            self._saving = asyncio.create_task(self._save())

    async def _save(self) -> None:
        """Write what waits, again and again: whoever comes meanwhile shares the next write."""
        loop, held = asyncio.get_running_loop(), True
        while held and self._unsaved:
            batch, self._unsaved, through = self._unsaved, [], self._noted
            held = await loop.run_in_executor(self._disk, self._append, batch)
            if held:
                self._saved = through
            else:
                now_s = self._clock()
                self._unsaved = [one for one in batch if one[1] > now_s] + self._unsaved
            told, self._waiting = self._waiting, []
            for ended in told:
                if not ended.done():  # the sender may have hung up
                    ended.set_result(held)
        self._saving = None

    def _append(self, batch: list[tuple[str, int]]) -> bool:
        try:
            if self._lines >= self._most_lines:
                self._shortened()
            # The empty line before them ends what an earlier write may have left in pieces.
            self._write(b"\n" + b"".join(_line(name, ends_s) for name, ends_s in batch))
        except OSError as error:
            if not self._failing:  # once for an outage: every sender with a token is told 503
                log.error("used tokens cannot be kept", because=error.strerror)  # noqa: TRY400 - our logs tell no values
            self._failing = True
            return False
        self._failing = False
        self._lines += len(batch)
        return True

    def _write(self, data: bytes) -> None:
        if self._file is None:
            raise FileNotFoundError
        write_all(self._file, data)
        os.fdatasync(self._file)

    def _shortened(self) -> dict[str, int]:
        """Put a file in the place of the old one that holds only what has not ended; give that."""
        found = _LINE.findall(self._path.read_bytes()) if self._path.exists() else []
        now_s = self._clock()
        live = {name.decode(): int(ends_s) for ends_s, name in found if int(ends_s) > now_s}
        fresh = self._path.with_suffix(".new")
        file = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            write_all(file, b"".join(_line(name, ends_s) for name, ends_s in live.items()))
            os.fsync(file)
            fresh.replace(self._path)
        except OSError:
            os.close(file)
            raise
        self._release()
        self._file = file  # the old one has no name any more, whatever comes
        sync_folder(self._path.parent)
        self._lines = len(live)
        return live

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    async def close(self) -> None:
        """Write what waits and let go of the file."""
        if self._saving:
            await self._saving
        self._disk.shutdown()
        self._release()


def _line(name: str, ends_s: int) -> bytes:
    return f"{ends_s} {name}\n".encode()
