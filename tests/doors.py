"""The gateway's HTTP side for tests, and what is sent to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from services.core.errors import Retry
from services.gateway.app import make_app
from services.gateway.reception.credentials import Source
from services.gateway.reception.desk import Desk
from services.gateway.reception.hearing import Hearing
from services.gateway.reception.sources import Sources
from services.local.home import REPO
from services.runtime.codec import Codec
from services.runtime.ports import Output
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.health import Health
from services.runtime.telemetry.metrics import Metrics

BUILD = Build(service="gateway", version="1.2.3", revision="abc", python="3.11.0")
CODEC = Codec(REPO / "schemas")
FHIR = {"Content-Type": "application/fhir+json"}
RESOURCE = b'{"resourceType":"Patient","name":[{"family":"Mxyzptlk"}]}'
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "o-1",
    "meta": {"versionId": "3"},
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
    "subject": {"reference": "Patient/made-up-1"},
}


class Gateway:
    """The gateway's HTTP side with a log in memory, which may be away."""

    def __init__(self, known: list[Source] | None = None, now: int = 1) -> None:
        self.log: list[Output] = []
        self.away = False
        self.partitions = {"feedback.v1": 4, "outcomes.v1": 4}
        self.metrics = Metrics(BUILD)
        desk = Desk(Sources(known), b"k" * 32, clock=lambda: now, randomness=bytes)
        health = Health(BUILD, self.metrics, lambda: (not self.away, "away" * self.away))
        hearing = Hearing(b"k" * 32, CODEC.encode, self.partitions)
        self.app = make_app(
            desk, hearing, self._deliver, health=health, metrics=self.metrics, lifespan=nothing
        )

    async def _deliver(self, record: Output) -> None:
        if self.away:
            raise Retry("Kafka: away")
        self.log.append(record)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(method, path, **options)

        return asyncio.run(asked())

    def post(self, body: Any = RESOURCE, path: str = "/fhir", **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, content=body, headers={**FHIR, **given})


@asynccontextmanager
async def nothing(_: FastAPI) -> AsyncIterator[None]:
    yield


def diagnostics(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/fhir+json"
    outcome = response.json()
    assert outcome["resourceType"] == "OperationOutcome"
    return str(outcome["issue"][0].get("diagnostics", ""))
