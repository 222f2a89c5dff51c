"""The model card, `card.json`: what the model is for, what it rests on, where it ends."""

import tomllib
from importlib.resources import files
from typing import Any, Final

from services.training.study import Judged

SCHEMA: Final = "vigil.card/1"
_DATA: Final = ("name", "license", "changes", "cite")
UNDESCRIBED: Final = {"name": "not described", "license": "not stated"}


def words() -> dict[str, Any]:
    """The card's text, `card.toml`."""
    return tomllib.loads(files("services.training").joinpath("card.toml").read_text("utf-8"))


def data_of(digest: str) -> dict[str, Any]:
    """What is known of data with this sha256: name, license, citation, limits."""
    described: dict[str, Any] = words()["data"].get(digest, UNDESCRIBED)
    return described


def holds(trained_on: str, digest: str) -> bool:
    """Whether data with this sha256 are known to be, or to be part of, the training data."""
    return digest in (trained_on, *data_of(trained_on).get("parts", []))


def card(
    identity: dict[str, str],
    rows: dict[str, dict[str, Any]],
    judged: Judged,
    census: dict[str, Any],
) -> dict[str, Any]:
    """Write the card.

    Args:
        identity: name and version.
        rows: by name of the columns, what `evaluate.report` gives; at least `shipped`.
        judged: the shipped columns, cross-validated.
        census: sha256 and size of the training data.
    """
    text, data = words(), data_of(census["sha256"])
    shipped = rows["shipped"]
    return {
        "schema": SCHEMA,
        **identity,
        "intended": text["intended"],
        "data": {key: data[key] for key in _DATA if key in data} | census,
        "method": text["method"],
        "platt": {"intercept": judged.line.intercept, "slope": judged.line.slope},
        "threshold": judged.threshold,
        "unit_of_analysis": shipped["unit_of_analysis"],
        "label": shipped["label"],
        "study": {
            name: {"sees": text["study"][name], **found["all"]} for name, found in rows.items()
        },
        "subgroups": shipped["subgroups"],
        "limits": [*text["limits"]["model"], *data.get("limits", [])],
    }
