"""The HTTP side of the gateway: routes, limits of time and size, the form of each answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from time import perf_counter
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.errors import Reason, Retry
from services.gateway.reception.answers import (
    FHIR,
    HEADERS,
    PROBLEM,
    Rejected,
    operation_outcome,
    problem,
)
from services.gateway.reception.body import MAX_BYTES
from services.gateway.reception.contract import (
    FEEDBACK_ROUTE,
    FHIR_ROUTE,
    HEALTH_ROUTES,
    OUTCOME_ROUTE,
    TICK_ROUTE,
)
from services.gateway.reception.credentials import MISSING
from services.gateway.reception.desk import Admitted, Desk
from services.gateway.reception.hearing import Heard, Hearing
from services.gateway.tls import CERTIFICATE
from services.runtime.ports import Output
from services.runtime.telemetry.health import JSON, Health
from services.runtime.telemetry.metrics import Metrics

BODY_TIMEOUT_S: Final = 30.0
REFUSED_FOR_WHO_SENT: Final = (401, 403)

Deliver = Callable[[Output], Awaitable[None]]
"""Returns when the record is durable; raises Retry when that is not known."""
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def make_app(
    desk: Desk,
    hearing: Hearing,
    deliver: Deliver,
    *,
    health: Health,
    metrics: Metrics,
    lifespan: Lifespan,
) -> FastAPI:
    """Put the routes together.

    Args:
        desk: turns requests into records.
        hearing: turns answers and outcomes into records.
        deliver: the way to Kafka.
        health: answers operators.
        metrics: where requests are counted.
        lifespan: what runs beside the requests.
    """
    app = FastAPI(
        title="Vigil gateway",
        version=health.build.version,
        description="Takes FHIR resources, answers to alerts and outcomes; answers when they are "
        "durably stored.",
        lifespan=lifespan,
        docs_url=None,  # its page would call a content network
        redoc_url=None,
    )
    app.add_middleware(Counted, metrics=metrics)
    for kind in (Rejected, Retry, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, partial(answer_failure, metrics))

    _take_messages(app, desk, deliver, metrics)
    _take_answers(app, desk, hearing, deliver)
    _tell_health(app, health)
    return app


def _take_messages(app: FastAPI, desk: Desk, deliver: Deliver, metrics: Metrics) -> None:
    async def answer(admitted: Admitted) -> Response:
        name, record = admitted
        await deliver(record)
        metrics.counter("request_body_bytes_total").inc(len(record.value or b""))
        return Response(b'{"ingest_id":"%s"}' % name.encode(), 202, media_type=JSON)

    @app.post("/fhir", **FHIR_ROUTE)
    async def fhir(request: Request) -> Response:
        source = desk.identify(request.headers, certificate_of(request))
        return await answer(desk.fhir(source, request.headers, await whole_body(request)))

    @app.post("/ticks", **TICK_ROUTE)
    async def ticks(request: Request) -> Response:
        source = desk.identify(request.headers, certificate_of(request))
        return await answer(desk.tick(source, await whole_body(request)))


def _take_answers(app: FastAPI, desk: Desk, hearing: Hearing, deliver: Deliver) -> None:
    async def answer(heard: Heard) -> Response:
        await asyncio.gather(*(deliver(record) for record in heard.records))
        return Response(msgspec.json.encode({"id": heard.name}), 202, media_type=JSON)

    @app.post("/feedback", **FEEDBACK_ROUTE)
    async def feedback(request: Request) -> Response:
        source = desk.identify(request.headers, certificate_of(request))
        body = await whole_body(request)
        return await answer(hearing.feedback(desk.arrival(source, request.headers), body))

    @app.post("/outcomes", **OUTCOME_ROUTE)
    async def outcomes(request: Request) -> Response:
        source = desk.identify(request.headers, certificate_of(request))
        body = await whole_body(request)
        return await answer(hearing.outcome(desk.arrival(source, request.headers), body))


def _tell_health(app: FastAPI, health: Health) -> None:
    async def ask_health(request: Request) -> Response:
        told = health.answer(request.url.path, request.headers.get("authorization", ""))
        return Response(told.body, told.status, media_type=told.content_type)

    for path, described in HEALTH_ROUTES.items():
        app.get(path, **described)(ask_health)


def certificate_of(request: Request) -> str:
    """Give SHA-256 of the verified certificate of the client, in hex, or nothing."""
    state: dict[str, str] = request.scope.get("state", {})
    return state.get(CERTIFICATE, "")


async def whole_body(request: Request) -> bytes:
    """Read a body, whatever its stated length is.

    Raises:
        Rejected: it is too long (413) or too slow (408).
    """
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > MAX_BYTES:
        raise Rejected(413, "header Content-Length", Reason.TOO_LARGE)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _collected(request.stream())
    except TimeoutError:
        raise Rejected(408, "body") from None


async def _collected(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_BYTES:
            raise Rejected(413, f"byte {MAX_BYTES}", Reason.TOO_LARGE)
    return bytes(body)


async def answer_failure(metrics: Metrics, request: Request, error: Exception) -> Response:
    """Answer in FHIR's words on FHIR routes and in problem details elsewhere."""
    rejected = _as_rejected(error)
    if rejected.status in REFUSED_FOR_WHO_SENT:
        metrics.counter("security_events_total", reason=rejected.reason or MISSING).inc()
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    headers.update(HEADERS.get(rejected.status, {}))
    if request.url.path.split("/")[1] == "fhir":
        return Response(operation_outcome(rejected), rejected.status, headers, FHIR)
    return Response(problem(rejected), rejected.status, headers, PROBLEM)


def _as_rejected(error: Exception) -> Rejected:
    match error:
        case Rejected():
            return error
        case Retry():
            return Rejected(503)
        case HTTPException(status_code=404 | 405 as status):
            return Rejected(status)
        case HTTPException() | ClientDisconnect():
            return Rejected(400)
        case _:
            return Rejected(500)


class Counted:
    """Counts requests by status and measures how long they took."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and watch its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.histogram("request_seconds").observe(perf_counter() - began)
            self._metrics.counter("requests_total", outcome=str(status)).inc()
