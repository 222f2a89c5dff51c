"""The routes as `/openapi.json` tells them."""

from typing import Any, Final

import msgspec

from services.gateway.reception.answers import FHIR, HEADERS, MEANINGS, PROBLEM
from services.gateway.reception.forms import Answer, Progress, Told
from services.gateway.reception.sources import SOURCE_ID

JSON: Final = "application/json"
Route = dict[str, Any]

_ACCEPTED: Final = {
    "type": "object",
    "required": ["ingest_id"],
    "properties": {"ingest_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"}},
}
_HEARD: Final = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string", "description": "The sender's own id of it."}},
}
_OUTCOME: Final = {
    "type": "object",
    "required": ["resourceType", "issue"],
    "properties": {
        "resourceType": {"const": "OperationOutcome"},
        "issue": {"type": "array", "minItems": 1, "items": {"type": "object"}},
    },
}
_PROBLEM: Final = {
    "type": "object",
    "required": ["title", "status"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "reason": {"type": "string", "description": "A code."},
        "place": {"type": "string", "description": "Where in the message; never a value."},
    },
}
_RESOURCE: Final = {
    "type": "object",
    "description": "A FHIR R4 resource or a Bundle; at most 1 MiB.",
}
_TICK: Final = {
    "type": "object",
    "required": ["time"],
    "properties": {"time": {"type": "string", "format": "date-time"}},
}
_HEADERS: Final = [
    {
        "name": "Vigil-Source",
        "in": "header",
        "description": "Who sends, where no tokens are configured.",
        "schema": {"type": "string", "pattern": f"^{SOURCE_ID.pattern}$"},
    },
    {
        "name": "Vigil-Time",
        "in": "header",
        "description": "When the message was received, by the clock of a source that declares it.",
        "schema": {"type": "string", "format": "date-time"},
    },
]
_TEXT: Final = {"schema": {"type": "string"}}
_REFUSALS: Final = (400, 401, 403, 408, 413, 415, 500, 503)


def _responses(media_type: str, schema: Route, accepted: Route = _ACCEPTED) -> dict[int, Route]:
    refused: dict[int, Route] = {
        status: {
            "description": MEANINGS[status][1],
            "content": {media_type: {"schema": schema}},
            "headers": dict.fromkeys(HEADERS.get(status, {}), _TEXT),
        }
        for status in _REFUSALS
    }
    held = {
        "description": "Every in-sync replica holds the message.",
        "content": {JSON: {"schema": accepted}},
    }
    return {202: held, **refused}


def _body(*media_types: str, schema: Route) -> Route:
    return {
        "requestBody": {
            "required": True,
            "content": {media_type: {"schema": schema} for media_type in media_types},
        },
        "parameters": _HEADERS,
    }


_BUNDLE_ANSWER: Final = {
    "description": "A batch or a transaction: what is told of each entry, in FHIR's shape.",
    "content": {FHIR: {"schema": {"type": "object", "required": ["resourceType", "entry"]}}},
}


def _fhir(summary: str, *in_path: str) -> Route:
    """Describe one way to hand in a resource."""
    found = _body(FHIR, JSON, schema=_RESOURCE)
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in in_path
    ]
    responses = _responses(FHIR, _OUTCOME)
    if in_path:
        responses[412] = {"description": MEANINGS[412][1]}
    else:
        responses[200] = _BUNDLE_ANSWER
    return {
        **found,
        "summary": summary,
        "parameters": [*named, *_HEADERS],
        "responses": {str(status): told for status, told in responses.items()},
    }


FHIR_PATHS: Final[Route] = {
    "/fhir": {"post": _fhir("Hand in a resource or a Bundle.")},
    "/fhir/{type}": {"post": _fhir("Hand in a resource of a type.", "type")},
    "/fhir/{type}/{id}": {"put": _fhir("Hand in a version of a resource.", "type", "id")},
}
TICK_ROUTE: Final[Route] = {
    "summary": "Tell the time of a source that declares its clock.",
    "status_code": 202,
    "response_model": None,
    "responses": _responses(PROBLEM, _PROBLEM),
    "openapi_extra": _body(JSON, schema=_TICK),
}


def _schema(form: type[msgspec.Struct]) -> Route:
    """Give the schema of a form in one piece: a contract has no place for parts of ours."""
    schema = msgspec.json.schema(form)
    joined: Route = _joined({"$ref": schema["$ref"]}, schema["$defs"])
    return joined


def _joined(schema: Any, parts: dict[str, Route]) -> Any:
    if isinstance(schema, list):
        return [_joined(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _joined(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {name: _joined(each, parts) for name, each in schema.items()}


FEEDBACK_ROUTE: Final[Route] = {
    "summary": "Answer an alert.",
    "status_code": 202,
    "response_model": None,
    "responses": _responses(PROBLEM, _PROBLEM, _HEARD),
    "openapi_extra": _body(JSON, schema=_schema(Answer)),
}
OUTCOME_ROUTE: Final[Route] = {
    "summary": "Tell what became of an encounter, or up to which time all onsets are told.",
    "status_code": 202,
    "response_model": None,
    "responses": _responses(PROBLEM, _PROBLEM, _HEARD),
    "openapi_extra": _body(JSON, schema={"oneOf": [_schema(Told), _schema(Progress)]}),
}


def _health(summary: str, *statuses: int, media_type: str = JSON) -> Route:
    return {
        "summary": summary,
        "response_model": None,
        "responses": {s: {"description": summary, "content": {media_type: {}}} for s in statuses},
    }


HEALTH_ROUTES: Final = {
    "/livez": _health("Whether the process answers.", 200),
    "/readyz": _health("Whether messages get through, and if not, why.", 200, 503),
    "/metrics": _health("Prometheus metrics.", 200, media_type="text/plain"),
    "/version": _health("Which program this is.", 200),
}
