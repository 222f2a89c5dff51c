"""A message with every kind of text, and the places in it where something else can stand."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from builders import Resource, bundle, encounter, observation, patient

Place = tuple[Any, ...]
COVERAGE: Resource = {
    "resourceType": "Coverage",
    "type": {"coding": [{"system": "https://nahdo.org/sopt", "code": "1"}], "text": "17"},
    "beneficiary": {"reference": "Patient/p-1", "display": "18"},
    "payor": [{"display": "19"}],
}
MESSAGE = bundle(
    patient(
        meta={"source": "urn:x", "tag": [{"display": "20"}]},
        name=[{"family": "Doe", "given": ["Jo"], "text": "Jo Doe"}],
        identifier=[{"system": "urn:mrn", "value": "1"}],
        telecom=[{"system": "phone", "value": "2"}],
        address=[{"line": ["3"], "city": "4", "postalCode": "5"}],
        text={"status": "generated", "div": "<div>6</div>"},
        communication=[{"language": {"coding": [{"code": "en"}], "text": "7"}}],
        contact=[{"name": {"text": "8"}}],
        photo=[{"title": "21", "url": "urn:y"}],
        extension=[{"url": "urn:z", "valueString": "22"}],
    ),
    COVERAGE,
    encounter(
        reasonCode=[{"text": "9"}],
        participant=[{"individual": {"reference": "Practitioner/x", "display": "10"}}],
    ),
    observation(
        note=[{"text": "11", "authorString": "12"}],
        performer=[{"display": "13"}],
        device={"reference": "Device/x", "display": "14"},
        interpretation=[{"text": "15"}],
        referenceRange=[{"text": "16"}],
    ),
)

ANSWER: Resource = {
    "id": "f-1",
    "alert_id": "00c7-2-10@0123456789ab",
    "verdict": "dismissed",
    "reason": "not-septic",
    "role": "nurse",
    "answered_at": "2026-01-01T08:00:00Z",
    "actions": [{"kind": "review", "at": "2026-01-01T08:00:00Z"}],
}
OUTCOME: Resource = {
    "id": "o-1",
    "patient": "p-1",
    "encounter": "e-1",
    "authority": "final",
    "revision": 1,
    "onset_at": None,
    "definition": "sepsis-3",
    "definition_version": "1",
}


def places_of(content: Any, path: Place = ()) -> Iterator[Place]:
    """Give the path of every text, and of every object, which can take another field."""
    match content:
        case dict():
            yield (*path, None)
            for name, value in content.items():
                yield from places_of(value, (*path, name))
        case list():
            for at, value in enumerate(content):
                yield from places_of(value, (*path, at))
        case str():
            yield path
        case _:
            return


PLACES = list(places_of(MESSAGE))


def poisoned(places: Sequence[Place], canary: str, message: Resource = MESSAGE) -> Any:
    """Put a canary in place of some texts, or as the key and value of fields that nobody knows."""
    content: Any = copy.deepcopy(message)
    for *path, last in sorted(places, key=len, reverse=True):
        holder = content
        for step in path:
            holder = holder[step]
        if last is None:
            holder[canary] = {"url": canary, "valueString": canary}
        else:
            holder[last] = canary
    return content
