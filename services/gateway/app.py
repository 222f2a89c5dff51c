"""The HTTP side of the gateway: routes, limits of time and size, the form of each answer."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from time import monotonic, perf_counter
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.errors import Retry
from services.gateway.catching import Catching
from services.gateway.reception.answers import (
    FHIR,
    HEADERS,
    PROBLEM,
    Rejected,
    operation_outcome,
    problem,
)
from services.gateway.reception.contract import (
    FEEDBACK_ROUTE,
    FHIR_PATHS,
    HEALTH_ROUTES,
    OUTCOME_ROUTE,
    TICK_ROUTE,
)
from services.gateway.reception.credentials import MISSING
from services.gateway.reception.desk import Desk
from services.gateway.reception.hearing import Heard, Hearing
from services.gateway.rest import Deliver, FhirDoor, whole_body
from services.gateway.tls import CERTIFICATE
from services.runtime.telemetry.health import JSON, Health
from services.runtime.telemetry.metrics import Metrics

REFUSED_FOR_WHO_SENT: Final = (401, 403)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def make_app(  # noqa: PLR0913 - it has as many sides
    desk: Desk,
    hearing: Hearing,
    deliver: Deliver,
    *,
    health: Health,
    metrics: Metrics,
    lifespan: Lifespan,
    catching: Catching | None = None,
) -> ASGIApp:
    """Put the routes together.

    Args:
        desk: turns requests into records.
        hearing: turns answers and outcomes into records.
        deliver: the way to Kafka.
        health: answers operators.
        metrics: where requests are counted.
        lifespan: what runs beside the requests.
        catching: follows subscriptions; without it their numbers are followed and nobody is asked.
    """
    app = FastAPI(
        title="Vigil gateway",
        version=health.build.version,
        description="Takes FHIR resources, answers to alerts and outcomes; answers when they are "
        "durably stored.",
        lifespan=lifespan,
        docs_url=None,  # its page would call a content network
        redoc_url=None,
        redirect_slashes=False,  # its answer would repeat what is in the query
    )
    failure = partial(answer_failure, metrics)

    async def failed(request: Request, error: Exception) -> Response:
        return failure(request.url.path, error)

    for kind in (Rejected, Retry, HTTPException, Exception):
        app.add_exception_handler(kind, failed)
    _take_ticks(app, desk, deliver, metrics)
    _take_answers(app, desk, hearing, deliver)
    _tell_health(app, health)
    app.openapi()["paths"].update(FHIR_PATHS)  # the door is no route
    door = FhirDoor(
        app,
        catching=catching or Catching([], metrics, clock=monotonic, marks=None),
        desk=desk,
        deliver=deliver,
        metrics=metrics,
        on_failure=failure,
    )
    return Counted(door, metrics)


def _take_ticks(app: FastAPI, desk: Desk, deliver: Deliver, metrics: Metrics) -> None:
    @app.post("/ticks", **TICK_ROUTE)
    async def ticks(request: Request) -> Response:
        source = desk.identify(request.headers, certificate_of(request))
        body = await whole_body(request.headers, request.receive)
        name, record = desk.tick(source, body)
        await deliver(record)
        metrics.counter("request_body_bytes_total").inc(len(body))
        return Response(b'{"ingest_id":"%s"}' % name.encode(), 202, media_type=JSON)


def _take_answers(app: FastAPI, desk: Desk, hearing: Hearing, deliver: Deliver) -> None:
    async def answer(heard: Heard) -> Response:
        await asyncio.gather(*(deliver(record) for record in heard.records))
        return Response(msgspec.json.encode({"id": heard.name}), 202, media_type=JSON)

    @app.post("/feedback", **FEEDBACK_ROUTE)
    async def feedback(request: Request) -> Response:
        source = desk.identify(request.headers, certificate_of(request))
        body = await whole_body(request.headers, request.receive)
        return await answer(hearing.feedback(desk.arrival(source, request.headers), body))

    @app.post("/outcomes", **OUTCOME_ROUTE)
    async def outcomes(request: Request) -> Response:
        source = desk.identify(request.headers, certificate_of(request))
        body = await whole_body(request.headers, request.receive)
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


def answer_failure(metrics: Metrics, path: str, error: Exception) -> Response:
    """Answer in FHIR's words on FHIR routes and in problem details elsewhere."""
    rejected = _as_rejected(error)
    if rejected.status in REFUSED_FOR_WHO_SENT:
        metrics.counter("security_events_total", reason=rejected.reason or MISSING).inc()
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    headers.update(HEADERS.get(rejected.status, {}))
    if path.split("/")[1] == "fhir":
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
        case HTTPException():
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
