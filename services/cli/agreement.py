"""What ingest makes of example files, and whether fhir.resources reads the same values in them."""

import importlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from services.core.events import Fate, Flag, Kind
from services.core.terminology.book import Terminology
from services.core.terminology.codes import is_loinc
from services.ingest.normalise.findings import Finding, Measured, Message, Moved, Person, Reading
from services.ingest.normalise.message import Reader

MODELS: Final = "fhir.resources.R4B"
CODE: Final = "code"
"""Stands for every LOINC code that is none of ours."""
UNREAD: Final = "whole file"


class Account(msgspec.Struct):
    """What became of the entries of one folder."""

    entries: int = 0
    fates: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    """From fate and reason, resource type, or CODE to how many."""
    compared: int = 0
    """Values held against fhir.resources."""
    differing: list[str] = msgspec.field(default_factory=list)
    """File and place of each value that it reads otherwise."""


def accounts(path: Path, terminology: Terminology, received_at: int) -> dict[str, Account]:
    """Read every `.json` and `.ndjson` file below a path; the account of each folder by its name.

    Args:
        path: a file or a folder.
        terminology: tables, a site's own perhaps among them.
        received_at: µs since the epoch, as if all files came in then.
    """
    found: dict[str, Account] = {}
    files = [path] if path.is_file() else sorted(path.rglob("*.*json"))
    for file in files:
        account = found.setdefault(file.parent.name, Account())
        for body in _documents(file):
            _add(account, file.name, body, terminology, received_at)
    return found


def _documents(file: Path) -> Iterator[bytes]:
    body = file.read_bytes()
    return (
        (line for line in body.splitlines() if line) if file.suffix == ".ndjson" else iter([body])
    )


def _add(
    account: Account, file: str, body: bytes, terminology: Terminology, received_at: int
) -> None:
    message = Message(
        body=body,
        source="examples",
        received_at=received_at,
        accepted_at=received_at,
        ingest_id=file,
        partition=0,
        offset=0,
    )
    try:
        entries = Reader(message, terminology).entries()
    except Exception as refusal:  # noqa: BLE001 - a refusal of the whole, or it is counted by its type
        account.entries += 1
        account.fates["refused", getattr(refusal, "reason", type(refusal).__name__)] += 1
        return
    for resource, entry in zip(_resources(body), entries, strict=True):
        account.entries += 1
        if entry.finding is None:
            account.fates[_fate(entry.fate, entry.detail)] += 1
            continue
        account.fates["read", str(resource["resourceType"])] += 1
        compared, places = differences(resource, entry.finding, terminology, received_at)
        account.compared += compared
        account.differing += [f"{file}: {place}" for place in places]


def _resources(body: bytes) -> list[Any]:
    content = json.loads(body)
    if content.get("resourceType") != "Bundle":
        return [content]
    return [entry.get("resource") for entry in content.get("entry", [])]


def _fate(fate: Fate, detail: str) -> tuple[str, str]:
    if fate is Fate.DEAD:
        return "refused", detail
    return "out of scope", CODE if is_loinc(detail) else detail


def differences(
    resource: dict[str, Any], finding: Finding, terminology: Terminology, received_at: int
) -> tuple[int, list[str]]:
    """Hold what was read against fhir.resources: how many values, and the places that differ."""
    model = _parsed(resource)
    if model is None:
        return 0, [UNREAD]
    match finding:
        case Measured():
            checks = dict(_of_observation(model, finding, terminology))
        case Person() if resource["resourceType"] == "Coverage":
            checks = {"beneficiary": _names(model.beneficiary, finding.patient)}
        case Person():
            checks = dict(_of_patient(model, finding, received_at))
        case Moved():
            checks = dict(_of_encounter(model, finding))
        case _:
            checks = {}
    return len(checks), [place for place, same in checks.items() if not same]


def _parsed(resource: dict[str, Any]) -> Any:
    kind = resource["resourceType"]
    model = getattr(importlib.import_module(f"{MODELS}.{kind.lower()}"), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote what they warn of
        try:
            return model.model_validate(resource)
        except ValidationError:
            return None


def _of_observation(
    model: Any, found: Measured, terminology: Terminology
) -> Iterator[tuple[str, bool]]:
    yield "id", found.identifier == (model.id or found.identifier)
    yield "subject", _names(model.subject, found.patient)
    if found.kind is Kind.RETRACTION:
        yield "status", model.status in ("entered-in-error", "cancelled")
        return
    period = model.effectivePeriod
    at = model.effectiveDateTime or model.effectiveInstant or (period and period.end)
    yield "effective", found.measured_at == _micros(at)
    parts = [model, *(model.component or [])]
    for reading in found.readings:
        same = any(_same(part, reading, terminology) for part in parts)
        yield f"value of {reading.code}", same


def _same(part: Any, reading: Reading, terminology: Terminology) -> bool:
    codings = part.code.coding or []
    if reading.code not in [terminology.loinc_of(c.system, c.code) for c in codings]:
        return False
    if reading.flags & Flag.ABSENT:
        return part.dataAbsentReason is not None and math.isnan(reading.value)
    quantity = part.valueQuantity
    if quantity is None or terminology.ucum_of(quantity.system, quantity.code) != reading.unit:
        return False
    known = terminology.conversions(reading.variable)
    expected = next(c for c in known if c.unit == reading.unit).apply(float(quantity.value))
    return math.isclose(reading.value, expected, rel_tol=1e-12)


def _of_patient(model: Any, found: Person, received_at: int) -> Iterator[tuple[str, bool]]:
    who = found.demographics
    yield "id", found.patient == model.id
    yield "gender", (who.sex or "unknown") == (model.gender or "unknown")
    if who.age is not None:
        days = (
            received_at / 1e6 - datetime.combine(model.birthDate, datetime.min.time()).timestamp()
        )
        yield "birthDate", abs(min(days / 86_400 / 365.2425, 90.5) - who.age - 0.5) <= 0.51  # noqa: PLR2004 - completed years


def _of_encounter(model: Any, found: Moved) -> Iterator[tuple[str, bool]]:
    yield "id", found.encounter == model.id
    yield "subject", _names(model.subject, found.patient)
    yield "status", found.stay.status == model.status
    for name, mine in (("start", found.stay.admitted_at), ("end", found.stay.ended_at)):
        theirs = getattr(model.period, name) if model.period else None
        yield f"period.{name}", mine == (_micros(theirs) if isinstance(theirs, datetime) else None)


def _names(reference: Any, identifier: str) -> bool:
    """Say whether a reference ends with an id; one to an entry of a Bundle holds it, too."""
    return (reference.reference or "").rpartition("/")[2].endswith(identifier)


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
