"""Every Observation of the collected FHIR examples, read by ingest and by fhir.resources."""

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from builders import REPO, message, terminology
from fhir.resources.R4B.observation import Observation
from pydantic import ValidationError

from services.core.errors import Reason
from services.core.events import Fate, Flag, Kind
from services.core.terminology.book import LOINC, UCUM
from services.core.vitals import VARIABLES
from services.ingest.normalise.findings import Measured, Reading
from services.ingest.normalise.message import Entry, Reader

EXAMPLES: Final = REPO.parent / "shared" / "data" / "fhir"
LATER: Final = "2030-01-01T00:00:00Z"
CONVERTED: Final = {("PaCO2", "kPa"): 7.50062, ("Glucose", "mmol/L"): 18.016}
"""Factors by definition, apart from the tables under test."""

CODES: Final = [
    line.split(",")[0]
    for line in (REPO / "schemas" / "terminology" / "codes.csv").read_text().splitlines()[1:]
    if line.split(",")[1] not in ("panel", "-")
]
FATES: Final = {
    "hl7-r4-examples": {
        "FHIR_CODE": 7,
        "TIME_FORMAT": 12,
        "UNIT_UNKNOWN": 17,
        "out_of_scope": 164,
        "vitals": 7,
    },
    "synthea-2019": {"out_of_scope": 226, "vitals": 133},
    "us-core-8.0.0": {"TIME_FORMAT": 15, "UNIT_UNKNOWN": 2, "out_of_scope": 120, "vitals": 1},
}

pytestmark = pytest.mark.data


class Example(NamedTuple):
    source: str
    file: str
    resource: dict[str, Any]
    entry: Entry
    reason: Reason | None


@cache
def examples() -> tuple[Example, ...]:
    if not EXAMPLES.exists():
        pytest.skip(reason="needs ../shared/data/fhir")
    return tuple(found for path in sorted(EXAMPLES.glob("*/*.json")) for found in read_file(path))


def read_file(path: Path) -> Iterator[Example]:
    body = path.read_bytes()
    content = json.loads(body)
    reader = Reader(message(body, received=LATER), terminology())
    entries = reader.entries()
    reasons = {refused.entry: refused.reason for refused in reader.refused}
    resources = [content]
    if content["resourceType"] == "Bundle":
        resources = [entry.get("resource", {}) for entry in content.get("entry", [])]
    for index, (resource, entry) in enumerate(zip(resources, entries, strict=True)):
        yield Example(path.parent.name, path.name, resource, entry, reasons.get(index))


def observations() -> list[Example]:
    return [e for e in examples() if e.resource.get("resourceType") == "Observation"]


def parsed(resource: dict[str, Any]) -> Any:
    """The Observation as fhir.resources reads it; None where it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydantic, about fields of fhir.resources
        try:
            return Observation.model_validate(resource)
        except ValidationError:
            return None


def micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def holder(model: Any, reading: Reading) -> Any:
    """The Observation, or the component of it, that has the reading's code."""
    parts = [model, *(model.component or [])]
    return next(
        part
        for part in parts
        if any(c.system == LOINC and c.code == reading.code for c in part.code.coding or [])
    )


def expected(reading: Reading, quantity: Any) -> float:
    factor = CONVERTED[VARIABLES[reading.variable], reading.unit] if converted(reading) else 1.0
    return float(quantity.value) * factor


def converted(reading: Reading) -> bool:
    return bool(reading.flags & Flag.CONVERTED)


def test_no_exception_leaves_and_every_entry_has_a_fate() -> None:
    assert len(examples()) > 1000
    assert [e.file for e in examples() if e.reason is Reason.UNEXPECTED] == []
    for example in examples():
        assert (example.entry.fate is Fate.DEAD) == (example.reason is not None), example.file


def test_what_is_read_agrees_with_fhir_resources() -> None:
    read = [e for e in observations() if isinstance(e.entry.finding, Measured)]
    compared = 0
    for example in read:
        found, model = example.entry.finding, parsed(example.resource)
        assert isinstance(found, Measured)
        assert model is not None, example.file
        assert found.identifier == model.id
        assert (model.subject.reference or "").rpartition("/")[2].endswith(found.patient)
        if found.kind is Kind.RETRACTION:
            assert model.status in ("entered-in-error", "cancelled")
            continue
        assert model.status in ("final", "amended", "corrected", "preliminary")
        effective = model.effectiveDateTime or model.effectivePeriod.end
        assert found.measured_at == micros(effective), example.file
        for reading in found.readings:
            part = holder(model, reading)
            if reading.flags & Flag.ABSENT:
                assert part.dataAbsentReason is not None
                assert math.isnan(reading.value)
                continue
            assert reading.unit == part.valueQuantity.code
            assert math.isclose(reading.value, expected(reading, part.valueQuantity)), example.file
            compared += 1
    assert compared > 100


def bears_out(reason: Reason, model: Any) -> bool:
    """Say whether fhir.resources sees the fault that ingest named."""
    quantities = [p.valueQuantity for p in (model, *(model.component or [])) if p.valueQuantity]
    match reason:
        case Reason.FHIR_CODE:
            return not model.code.coding
        case Reason.UNIT_UNKNOWN:
            return any(q.code is None or q.system != UCUM for q in quantities)
        case Reason.TIME_FORMAT:
            return not isinstance(model.effectiveDateTime, datetime)
        case _:
            return False


def test_what_is_refused_has_the_fault_that_is_named() -> None:
    for example in observations():
        if example.reason is not None:
            assert bears_out(example.reason, parsed(example.resource)), example.file


def test_what_is_not_read_has_no_code_of_ours() -> None:
    ours = {code for code in CODES if code}
    for example in observations():
        if example.entry.fate is Fate.OUT_OF_SCOPE and "status" not in example.entry.detail:
            codings = example.resource["code"].get("coding", [])
            codes = {c.get("code") for c in codings if c.get("system") == LOINC}
            assert codes.isdisjoint(ours), example.file


def test_the_table_of_fates_explains_every_observation() -> None:
    table: dict[str, Counter[str]] = {}
    for example in observations():
        word = example.reason or example.entry.fate
        table.setdefault(example.source, Counter())[str(word)] += 1
    assert {source: dict(counts) for source, counts in table.items()} == FATES
