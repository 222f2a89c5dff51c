"""Files of HL7 v2, sent over MLLP one message after the other."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from services.core.errors import CommandError
from services.core.faults import Fault

START: Final = b"\x0b"
END: Final = b"\x1c\r"
ACCEPTED: Final = "AA"
AGAIN: Final = b"^Application internal error"
"""In an answer: the message is not at fault, and may be sent again."""
PAUSE_S: Final = 1.0
ANSWER_S: Final = 60.0
_BEGINS: Final = re.compile(rb"(?:^|[\r\n\x0b])(?=MSH.)")
_ANSWER: Final = re.compile(rb"\rMSA.(\w\w)")


class Told:
    """What became of the messages of a replay."""

    def __init__(self) -> None:
        self.sent = self.repeated = 0
        self.elapsed_s = 0.0
        self.answers: Counter[str] = Counter()

    def summary(self) -> dict[str, Any]:
        """Say it in plain numbers, for a report."""
        refused = {code: n for code, n in sorted(self.answers.items()) if code != ACCEPTED}
        return {
            "sent": self.sent,
            "accepted": self.answers[ACCEPTED],
            "refused": refused,
            "repeated": self.repeated,
            "elapsed_s": round(self.elapsed_s, 3),
        }


def is_hl7(path: Path) -> bool:
    """Whether a path is a file of HL7 v2, or a folder with such files."""
    return path.suffix == ".hl7" or (path.is_dir() and any(path.glob("*.hl7")))


def messages(path: Path) -> Iterator[bytes]:
    """Give every message of a file, or of a folder's files by name: each begins with MSH."""
    for file in [path] if path.is_file() else sorted(path.glob("*.hl7")):
        for part in _BEGINS.split(file.read_bytes()):
            body = part.strip(b"\r\n\x0b\x1c")
            if body.startswith(b"MSH"):
                yield body.replace(b"\r\n", b"\r").replace(b"\n", b"\r")


async def send(path: Path, host: str, port: int, progress: Callable[[Told], None]) -> Told:
    """Send every message and wait for its answer; what could not be stored is sent again.

    Raises:
        CommandError: nobody answers there.
    """
    told, began_s = Told(), asyncio.get_running_loop().time()
    try:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            for body in messages(path):
                told.sent += 1
                told.answers[await _answered(body, reader, writer, told)] += 1
                told.elapsed_s = asyncio.get_running_loop().time() - began_s
                progress(told)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise CommandError(
            f"Nobody takes HL7 v2 at {host}:{port} ({type(error).__name__}).",
            "Start the gateway with VIGIL_MLLP_PORT, or say --mllp HOST:PORT.",
            Fault.GATEWAY_SILENT,
        ) from None
    return told


async def _answered(
    body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: Told
) -> str:
    while True:
        writer.write(START + body + END)
        async with asyncio.timeout(ANSWER_S):
            await writer.drain()
            answer = await reader.readuntil(END)
        if AGAIN not in answer:
            found = _ANSWER.search(answer)
            return found[1].decode("ascii", "replace") if found else "none"
        told.repeated += 1
        await asyncio.sleep(PAUSE_S)
