"""HL7 v2 over MLLP: frames of bounded length and time; AA only after the durable write."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from socket import socket
from typing import Final

import structlog

from services.core.errors import Reason, Retry
from services.gateway.hl7v2 import acknowledgment
from services.gateway.hl7v2.coded import date_time
from services.gateway.hl7v2.refusal import INTERNAL, SEQUENCE, TYPE, Answer, NotTaken
from services.gateway.hl7v2.segments import parted
from services.gateway.hl7v2.translation import Header, bundle, check, header_of
from services.gateway.reception.answers import Rejected
from services.gateway.reception.body import MAX_BYTES
from services.gateway.reception.credentials import MISSING, Source
from services.gateway.reception.desk import Desk
from services.runtime.ports import Output
from services.runtime.telemetry.metrics import Metrics

START: Final = b"\x0b"
END: Final = b"\x1c\r"
BETWEEN: Final = b"\r\n"
FRAME_TIMEOUT_S: Final = 30.0
"""A frame that has begun must end within this time, and an answer must be read."""
MOST_CONNECTIONS: Final = 256
MOST_BETWEEN: Final = 16

Deliver = Callable[[Output], Awaitable[None]]
log = structlog.stdlib.get_logger()


class _Broken(Exception):  # noqa: N818 - it names what came
    """What comes is no frame: nothing after it can be understood."""


class Mllp:
    """The door for HL7 v2. A connection's messages are taken one after the other."""

    def __init__(self, desk: Desk, deliver: Deliver, metrics: Metrics) -> None:
        """Prepare the door.

        Args:
            desk: turns what a message became into a record.
            deliver: returns when the record is durable.
            metrics: where messages are counted.
        """
        self._desk, self._deliver, self._metrics = desk, deliver, metrics
        self._connections: set[asyncio.Task[None]] = set()
        self._taking: set[asyncio.Task[None]] = set()
        self._closing = False
        self._server: asyncio.Server | None = None

    async def open(self, door: socket, tls: ssl.SSLContext | None) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(
            self._serve,
            sock=door,
            limit=MAX_BYTES,
            ssl=tls,
            ssl_handshake_timeout=FRAME_TIMEOUT_S if tls else None,
        )

    async def close(self) -> None:
        """End: a message that is being taken is answered first."""
        self._closing = True
        if self._server:
            self._server.close()
        for connection in self._connections - self._taking:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MOST_CONNECTIONS:
            self._count("closed", "TOO_MANY")
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer, task)
        except _Broken as broken:
            self._count("closed", str(broken))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self._count("closed", "CONNECTION")
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await writer.wait_closed()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        task: "asyncio.Task[None]",
    ) -> None:
        certificate = certificate_of(writer)
        while not self._closing and await _begun(reader):
            try:
                body = await _frame(reader)
            except asyncio.LimitOverrunError:
                why = NotTaken(Answer.REJECTED, SEQUENCE, reason=Reason.TOO_LARGE)
                await _say(writer, self._refused(None, why))
                raise _Broken(Reason.TOO_LARGE) from None
            self._taking.add(task)
            try:
                await _say(writer, await self.take(body, certificate))
            finally:
                self._taking.discard(task)

    async def take(self, body: bytes, certificate: str = "") -> bytes:
        """Take one message and give the answer to it; never raises."""
        header: Header | None = None
        try:
            segments = parted(body)
            header = header_of(segments[0])
            source = self._source(header, certificate)
            check(header)
            made = bundle(header, segments, source.zone())
            _, record = self._desk.translated(source, made, declared=_declared(header, source))
            await self._deliver(record)
        except NotTaken as why:
            return self._refused(header, why)
        except Rejected as rejected:
            return self._refused(header, _not_taken(rejected))
        except Retry:
            self._count(Answer.ERROR, "SEND_AGAIN")
            return acknowledgment.not_stored(header, **_signed())
        except Exception as error:  # noqa: BLE001 - whatever one message provokes, the next goes on
            log.error("failed", because=type(error).__name__)  # noqa: TRY400 - its text may tell values
            unexpected = NotTaken(Answer.ERROR, INTERNAL, reason=Reason.UNEXPECTED)
            return self._refused(header, unexpected)
        self._count(Answer.ACCEPTED, "")
        return acknowledgment.acknowledged(header, **_signed())

    def _source(self, header: Header, certificate: str) -> Source:
        try:
            return self._desk.facility(
                header.facility, token=header.security, certificate=certificate
            )
        except Rejected as rejected:
            reason = rejected.reason or MISSING
            self._metrics.counter("security_events_total", reason=reason).inc()
            raise

    def _refused(self, header: Header | None, why: NotTaken) -> bytes:
        self._count(why.answer, why.reason)
        return acknowledgment.refused(header, why, **_signed())

    def _count(self, outcome: str, reason: str) -> None:
        self._metrics.counter("mllp_messages_total", outcome=outcome, reason=reason).inc()


def certificate_of(writer: asyncio.StreamWriter) -> str:
    """Give the SHA-256 of the verified certificate of the other side, in hex, or nothing."""
    tls = writer.get_extra_info("ssl_object")
    shown = tls.getpeercert(binary_form=True) if tls else None
    return hashlib.sha256(shown).hexdigest() if shown else ""


async def _begun(reader: asyncio.StreamReader) -> bool:
    """Wait for the beginning of a frame; False when the other side has ended."""
    for _ in range(MOST_BETWEEN):
        sign = await reader.read(1)
        if not sign:
            return False
        if sign == START:
            return True
        if sign not in BETWEEN:
            break
    raise _Broken("NO_FRAME")


async def _frame(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(FRAME_TIMEOUT_S):
        return (await reader.readuntil(END))[: -len(END)]


async def _say(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(START + answer + END)
    if writer.transport.get_write_buffer_size():  # else nothing could be waited for
        async with asyncio.timeout(FRAME_TIMEOUT_S):
            await writer.drain()


def _declared(header: Header, source: Source) -> str | None:
    if source.clock != "declared":
        return None
    return date_time(header.segment.first(7).strip(), "", source.zone())


def _not_taken(rejected: Rejected) -> NotTaken:
    """Say in the words of HL7 v2 what HTTP says with a status."""
    answer = Answer.ERROR if rejected.status in (400, 503) else Answer.REJECTED
    return NotTaken(answer, TYPE, _place(rejected), rejected.reason or MISSING)


def _place(rejected: Rejected) -> str:
    return rejected.place if rejected.place.startswith("MSH") else "MSH^1"


def _signed() -> dict[str, str]:
    name = f"{datetime.now(UTC):%Y%m%d%H%M%S%f}"
    return {"at": f"{name[:14]}+0000", "name": name}
