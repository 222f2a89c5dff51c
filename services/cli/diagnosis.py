"""What fhir.resources finds wrong in a payload: places and kinds of faults, no value of it."""

import importlib
import json
import warnings
from typing import Any, Final

from pydantic import BaseModel, ValidationError

MODELS: Final = "fhir.resources.R4B"
UNKNOWN: Final = "(unknown element)"
_EXTRA: Final = "extra_forbidden"


def diagnose(payload: bytes) -> list[dict[str, str]]:
    """Name each fault of a resource by its place and kind; empty if there is none.

    Kinds are those of pydantic, such as `missing`. A key that FHIR does not know could itself be
    a value: it is not repeated.
    """
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError) as error:
        return [{"place": "document", "fault": f"no JSON ({type(error).__name__})"}]
    kind = content.get("resourceType") if isinstance(content, dict) else None
    model = _model(kind) if isinstance(kind, str) else None
    if model is None:
        return [{"place": "resourceType", "fault": "no resource type of FHIR R4"}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote what they warn of
        try:
            model.model_validate(content)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            return [_told(model.__name__, fault) for fault in found]
        except Exception as error:  # noqa: BLE001 - it raises others too, and their texts quote
            return [{"place": model.__name__, "fault": type(error).__name__}]
    return []


def _model(kind: str) -> type[BaseModel] | None:
    if not (kind.isascii() and kind.isalpha()):
        return None
    try:
        found = getattr(importlib.import_module(f"{MODELS}.{kind.lower()}"), kind, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _told(model: str, fault: Any) -> dict[str, str]:
    path: list[Any] = list(fault["loc"])
    if fault["type"] == _EXTRA:
        path = [*path[:-1], UNKNOWN]
    return {"place": ".".join([model, *[str(part) for part in path]]), "fault": fault["type"]}
