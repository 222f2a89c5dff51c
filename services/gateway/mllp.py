"""HL7 v2 over MLLP: frames of bounded length and time; AA only after the durable write."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from socket import socket
from typing import Final

import structlog

from services.core.errors import Reason, Retry
from services.core.notices import PATIENT_MERGE
from services.gateway.connections import FRAME_TIMEOUT_S, Connection, Room
from services.gateway.hl7v2 import acknowledgment
from services.gateway.hl7v2.coded import date_time
from services.gateway.hl7v2.refusal import INTERNAL, SEQUENCE, TYPE, Answer, NotTaken
from services.gateway.hl7v2.segments import parted
from services.gateway.hl7v2.translation import Header, bundle, check, header_of
from services.gateway.reception.answers import Rejected
from services.gateway.reception.credentials import MISSING, Source
from services.gateway.reception.desk import Desk
from services.runtime.ports import Output
from services.runtime.telemetry.metrics import Metrics

MOST_CONNECTIONS: Final = 256

Deliver = Callable[[Output], Awaitable[None]]
Happened = Callable[[str, str, int], Awaitable[None]]
"""Tells durably what happened, at which source, and when (µs); raises Retry."""
log = structlog.stdlib.get_logger()


class Mllp:
    """The door for HL7 v2. A connection's messages are taken one after the other."""

    def __init__(
        self,
        desk: Desk,
        deliver: Deliver,
        metrics: Metrics,
        happened: Happened | None = None,
    ) -> None:
        """Prepare the door.

        Args:
            desk: turns what a message became into a record.
            deliver: returns when the record is durable.
            metrics: where messages are counted.
            happened: is told of a merge before it is refused; None tells nobody.
        """
        self._desk, self._deliver, self._metrics = desk, deliver, metrics
        self._happened = happened
        self._room = Room(self.take, too_large=self._too_large, closed=self._closed)
        self._server: asyncio.Server | None = None

    async def open(self, door: socket, tls: ssl.SSLContext | None) -> None:
        """Begin to listen."""
        self._server = await asyncio.get_running_loop().create_server(
            partial(Connection, self._room, most=MOST_CONNECTIONS),
            sock=door,
            ssl=tls,
            ssl_handshake_timeout=FRAME_TIMEOUT_S if tls else None,
        )

    async def close(self) -> None:
        """End: a message that is being taken is answered first."""
        if self._server:
            self._server.close()
        await asyncio.gather(*(connection.finish() for connection in list(self._room.open)))

    def _too_large(self) -> bytes:
        return self._refused(None, NotTaken(Answer.REJECTED, SEQUENCE, reason=Reason.TOO_LARGE))

    def _closed(self, why: str) -> None:
        self._count("closed", why)

    async def take(self, body: bytes, certificate: str = "") -> bytes:
        """Take one message and give the answer to it; never raises."""
        header: Header | None = None
        try:
            segments = parted(body)
            header = header_of(segments[0])
            source = self._source(header, certificate)
            await self._check(header, source)
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

    async def _check(self, header: Header, source: Source) -> None:
        try:
            check(header)
        except NotTaken as why:
            if why.reason == Reason.PATIENT_MERGE and self._happened:
                declared = _declared(header, source)
                times = {} if declared is None else {"vigil-time": declared}
                arrival = self._desk.arrival(source, times)
                await self._happened(PATIENT_MERGE, source.id, arrival.received_at)
            raise

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
