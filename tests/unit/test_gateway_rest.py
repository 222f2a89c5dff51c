"""FHIR's REST at the door: addresses, versions, and an answer for each entry of a Bundle."""

import json
from typing import Any

import pytest
from doors import OBSERVATION, Gateway, diagnostics
from fhir.resources.R4B import get_fhir_model_class

PLACE = "/fhir/Observation/o-1"


def entry(resource: dict[str, Any] | None = OBSERVATION, **request: str) -> dict[str, Any]:
    given = {"method": "PUT", "url": "Observation/o-1", **request}
    return {"request": given, **({"resource": resource} if resource else {})}


def sent(gateway: Gateway, kind: str, *entries: dict[str, Any]) -> Any:
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
    return gateway.post(json.dumps(bundle))


def test_a_version_of_a_resource_is_put_under_its_address() -> None:
    gateway = Gateway()
    response = gateway.ask("PUT", PLACE, json=OBSERVATION)
    assert response.status_code == 202
    assert response.headers["etag"] == 'W/"3"'
    assert response.headers["location"] == f"{PLACE}/_history/3"
    assert json.loads(gateway.log[0].value or b"") == OBSERVATION


@pytest.mark.parametrize("kind", ["Observation", "Patient", "Encounter", "Device", "Bundle"])
def test_a_resource_is_posted_to_its_type_and_to_no_other(kind: str) -> None:
    gateway = Gateway()
    body = {"resourceType": kind, "type": "collection"}
    assert gateway.ask("POST", f"/fhir/{kind}", json=body).status_code == 202
    other = gateway.ask("POST", "/fhir/Coverage", json=body)
    assert (other.status_code, diagnostics(other)) == (400, "FHIR_TYPE at resourceType")
    assert len(gateway.log) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/fhir/Observation/other", OBSERVATION),
        ("/fhir/Observation/o-1", {"resourceType": "Observation"}),
        ("/fhir/Observation/o_1", {**OBSERVATION, "id": "o_1"}),
        ("/fhir/Observation/o-1", {**OBSERVATION, "id": 1}),
    ],
)
def test_an_address_that_is_not_the_resources_is_refused(path: str, body: dict[str, Any]) -> None:
    gateway = Gateway()
    response = gateway.ask("PUT", path, json=body)
    assert (response.status_code, diagnostics(response)) == (400, "FHIR_ID at id")
    assert not gateway.log


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match", "If-None-Exist"])
def test_a_condition_that_cannot_be_kept_is_refused(header: str) -> None:
    gateway = Gateway()
    response = gateway.ask("PUT", PLACE, json=OBSERVATION, headers={header: 'W/"2"'})
    assert response.status_code == 412
    assert not gateway.log


def test_nothing_is_taken_elsewhere() -> None:
    gateway = Gateway()
    for method, path in [
        ("DELETE", PLACE),
        ("PUT", "/fhir/Observation"),
        ("POST", "/fhir/Medication"),
        ("POST", "/fhirs"),
    ]:
        assert gateway.ask(method, path, json={}).status_code == 404
    assert not gateway.log


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_every_entry_is_answered_in_order(kind: str) -> None:
    gateway = Gateway()
    response = sent(gateway, kind, entry(), entry(method="POST", url="Observation"))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/fhir+json"
    answer = response.json()
    get_fhir_model_class("Bundle").model_validate(answer)
    assert answer["type"] == f"{kind}-response"
    assert [e["response"]["status"] for e in answer["entry"]] == ["202 Accepted"] * 2
    assert answer["id"].encode() == dict(gateway.log[0].headers)["ingest_id"]


def test_what_only_asks_is_told_so_in_a_batch_and_spoils_a_transaction() -> None:
    gateway = Gateway()
    asks = entry(None, method="GET", url="Patient/1")
    answer = sent(gateway, "batch", entry(), asks).json()
    get_fhir_model_class("Bundle").model_validate(answer)
    assert [e["response"]["status"][:3] for e in answer["entry"]] == ["202", "405"]
    refused = sent(gateway, "transaction", entry(), asks)
    assert (refused.status_code, diagnostics(refused)) == (
        400,
        "FHIR_TYPE at Bundle.entry[1].request.method",
    )
    assert len(gateway.log) == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"resource": OBSERVATION}, "FHIR_TYPE at Bundle.entry[0].request"),
        (entry(None), "FHIR_TYPE at Bundle.entry[0].resource"),
        (entry(url="Patient/o-1"), "FHIR_TYPE at Bundle.entry[0].request.url"),
        (entry(url="Observation/o-2"), "FHIR_ID at Bundle.entry[0].request.url"),
        ({"resource": "Mxyzptlk"}, "FHIR_TYPE at Bundle.entry[0]"),
        (entry(method="PATCH"), "FHIR_TYPE at Bundle.entry[0].request.method"),
    ],
)
@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_an_entry_that_would_be_read_otherwise_than_it_asks_refuses_the_whole(
    kind: str, wrong: dict[str, Any], told: str
) -> None:
    gateway = Gateway()
    response = sent(gateway, kind, wrong, entry())
    assert (response.status_code, diagnostics(response)) == (400, told)
    assert not gateway.log


@pytest.mark.parametrize("kind", ["collection", "message", "history", "document"])
def test_a_bundle_that_asks_for_nothing_is_answered_by_its_id(kind: str) -> None:
    response = sent(Gateway(), kind, entry())
    assert (response.status_code, set(response.json())) == (202, {"ingest_id"})
