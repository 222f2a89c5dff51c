"""Small builders of synthetic FHIR, and of the records in which it travels."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from services.core.events import Vitals
from services.core.terminology.book import TABLES, Terminology
from services.ingest.normalise.assemble import Assembler
from services.ingest.normalise.findings import Message
from services.ingest.normalise.message import Entry, Reader, Refused
from services.ingest.normalise.moments import instant
from services.ingest.pipeline import Ingest, OnReceipts
from services.runtime.codec import Codec
from services.runtime.ports import Record
from services.runtime.vault import Vault

Resource = dict[str, Any]

REPO = Path(__file__).parents[1]
SCHEMAS = REPO / "schemas"
PARTITIONS = 4
PSEUDONYM_KEY = bytes(range(32))
PAYLOAD_KEY = bytes(range(32, 64))
RECEIVED = "2026-01-05T08:00:30Z"
MEASURED = "2026-01-05T08:00:00Z"


@cache
def terminology() -> Terminology:
    return Terminology.parse({n: (SCHEMAS / "terminology" / n).read_text() for n in TABLES})


@cache
def codec() -> Codec:
    return Codec(SCHEMAS)


def vault() -> Vault:
    return Vault([PAYLOAD_KEY])


def quantity(value: object, unit: str) -> Resource:
    return {"value": value, "system": "http://unitsofmeasure.org", "code": unit}


def concept(*codes: str) -> Resource:
    return {"coding": [{"system": "http://loinc.org", "code": code} for code in codes]}


def category(code: str) -> list[Resource]:
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return [{"coding": [{"system": system, "code": code}]}]


def observation(*codes: str, **elements: object) -> Resource:
    """A heart rate of 80/min unless told otherwise; an element of None is left out."""
    resource = {
        "resourceType": "Observation",
        "id": "o-1",
        "status": "final",
        "category": category("vital-signs"),
        "code": concept(*(codes or ("8867-4",))),
        "subject": {"reference": "Patient/p-1"},
        "encounter": {"reference": "Encounter/e-1"},
        "effectiveDateTime": MEASURED,
        "valueQuantity": quantity(80, "/min"),
    }
    return {k: v for k, v in {**resource, **elements}.items() if v is not None}


def blood_pressure(systolic: float, diastolic: float, **elements: object) -> Resource:
    parts = [("8480-6", systolic), ("8462-4", diastolic)]
    return observation(
        "85354-9",
        valueQuantity=None,
        component=[
            {"code": concept(code), "valueQuantity": quantity(value, "mm[Hg]")}
            for code, value in parts
        ],
        **elements,
    )


def patient(**elements: object) -> Resource:
    resource = {
        "resourceType": "Patient",
        "id": "p-1",
        "gender": "female",
        "birthDate": "1960-02-03",
    }
    return {k: v for k, v in {**resource, **elements}.items() if v is not None}


def encounter(**elements: object) -> Resource:
    resource = {
        "resourceType": "Encounter",
        "id": "e-1",
        "status": "in-progress",
        "subject": {"reference": "Patient/p-1"},
        "period": {"start": "2026-01-05T06:00:00Z"},
        "location": [{"location": {"reference": "Location/icu-2", "display": "ICU 2"}}],
    }
    return {k: v for k, v in {**resource, **elements}.items() if v is not None}


def bundle(*resources: Resource, kind: str = "collection") -> Resource:
    entries = [{"resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def body(content: Resource | bytes) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def message(
    content: Resource | bytes, *, source: str = "west", received: str = RECEIVED
) -> Message:
    return Message(
        body=body(content),
        source=source,
        received_at=instant(received),
        accepted_at=instant(RECEIVED),
        ingest_id="i-1",
        partition=0,
        offset=0,
    )


def read(content: Resource | bytes, **of: str) -> tuple[list[Vitals], list[Entry], list[Refused]]:
    """Read a message: its events, what became of its entries, what was refused."""
    received = message(content, **of)
    reader = Reader(received, terminology())
    entries = reader.entries()
    assembler = Assembler(received, PSEUDONYM_KEY, terminology().version)
    findings = [(i, entry.finding) for i, entry in enumerate(entries) if entry.finding]
    return assembler.events(findings), entries, reader.refused


def record(
    content: Resource | bytes,
    *,
    offset: int = 0,
    media_type: str = "application/fhir+json",
    received: str = RECEIVED,
) -> Record:
    """A record of fhir.raw.v1 as the gateway writes it."""
    headers = {
        "content-type": media_type,
        "source": "west",
        "received_at": str(instant(received)),
        "accepted_at": str(instant(RECEIVED)),
        "ingest_id": f"{offset:032x}",
    }
    told = tuple((name, value.encode()) for name, value in headers.items())
    return Record("fhir.raw.v1", 0, offset, 1_767_600_030_000, b"key", body(content), told)


def tick(time: str, *, offset: int = 0) -> Record:
    content = body({"time": time})
    return record(content, offset=offset, media_type="application/vnd.vigil.tick+json")


def ingest(on_receipts: OnReceipts = lambda _: None) -> Ingest:
    return Ingest(
        terminology=terminology(),
        pseudonym_key=PSEUDONYM_KEY,
        vault=vault,
        codec=codec(),
        partitions=PARTITIONS,
        on_receipts=on_receipts,
    )
