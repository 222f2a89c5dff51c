"""The door for FHIR: straight below the server, because every message passes here.

A web framework would take longer over a request than all that is done with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.core.errors import Reason
from services.gateway.catching import Catching
from services.gateway.reception import interactions
from services.gateway.reception.answers import FHIR, Rejected
from services.gateway.reception.body import MAX_BYTES, check_object
from services.gateway.reception.desk import Desk
from services.gateway.reception.interactions import Address
from services.gateway.reception.subscriptions import HANDSHAKE, HEARTBEAT, notification_of
from services.gateway.tls import CERTIFICATE
from services.runtime.ports import Output
from services.runtime.telemetry.health import JSON
from services.runtime.telemetry.metrics import Metrics

BODY_TIMEOUT_S: Final = 30.0
BASE: Final = "/fhir"
BELOW: Final = "/fhir/"

Deliver = Callable[[Output], Awaitable[None]]
"""Returns when the record is durable; raises Retry when that is not known."""
OnFailure = Callable[[str, Exception], Response]
"""Gives the answer to a request that failed, by its path."""


class FhirDoor:
    """Takes what comes below `/fhir`; all else goes on to `app`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        desk: Desk,
        deliver: Deliver,
        catching: Catching,
        metrics: Metrics,
        on_failure: OnFailure,
    ) -> None:
        self._app, self._desk, self._deliver = app, desk, deliver
        self._catching = catching
        self._bytes = metrics.counter("request_body_bytes_total")
        self._on_failure = on_failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        path = scope.get("path", "")
        address = None
        if path == BASE or path.startswith(BELOW):
            address = interactions.address_of(scope["method"], path)
        if address is None and path != BASE:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._taken(address, scope, receive)
        except Exception as error:  # noqa: BLE001 - every failure has an answer
            response = self._on_failure(path, error)
        await response(scope, receive, send)

    async def _taken(self, address: Address | None, scope: Scope, receive: Receive) -> Response:
        if address is None:
            raise HTTPException(405, headers={"Allow": "POST"})
        headers = headers_of(scope)
        source = self._desk.identify(headers, scope.get("state", {}).get(CERTIFICATE, ""))
        body = await whole_body(headers, receive)
        stated = check_object(body)
        told = interactions.agreed(address, headers, body) if address.kind else {}
        answers = interactions.answers_of(body, stated)
        said = notification_of(body)
        if said is not None:
            self._catching.count(source.id, said)
            if said.kind in (HANDSHAKE, HEARTBEAT):
                self._catching.hold(source.id, said)
                return Response(status_code=200)
        name, record = self._desk.fhir(source, headers, body)
        await self._deliver(record)
        if said is not None:
            self._catching.hold(source.id, said)
        self._bytes.inc(len(body))
        if answers:
            return Response(interactions.bundle_of(*answers, name), 200, media_type=FHIR)
        return Response(b'{"ingest_id":"%s"}' % name.encode(), 202, told, JSON)


def headers_of(scope: Scope) -> Mapping[str, str]:
    """Give the headers of a request, names in lower case; of several with one name the first."""
    return {
        name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"][::-1]
    }


async def whole_body(headers: Mapping[str, str], receive: Receive) -> bytes:
    """Read a body, whatever its stated length is.

    Raises:
        Rejected: it is too long (413) or too slow (408), or its sender has gone (400).
    """
    stated = headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > MAX_BYTES:
        raise Rejected(413, "header Content-Length", Reason.TOO_LARGE)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _collected(receive)
    except TimeoutError:
        raise Rejected(408, "body") from None


async def _collected(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Rejected(400)
        body += message.get("body", b"")
        if len(body) > MAX_BYTES:
            raise Rejected(413, f"byte {MAX_BYTES}", Reason.TOO_LARGE)
        more = message.get("more_body", False)
    return bytes(body)
