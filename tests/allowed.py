"""The list of what may stand on a topic (schemas/allowed), read for tests."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from builders import terminology

from services.core.cohorts import AGE_BANDS, DIMENSIONS, UNKNOWN, age_band
from services.core.feedback import ACTIONS, REASONS, ROLES
from services.core.measures import MEASURES
from services.core.notices import MATTERS
from services.local.home import REPO
from services.runtime.topics.files import read_topics

SCHEMAS = REPO / "schemas"
FOLDER = SCHEMAS / "allowed"
EVENTS = {topic.topic: topic.event for topic in read_topics(SCHEMAS) if topic.event}
PHI = {topic.topic for topic in read_topics(SCHEMAS) if topic.phi}
HOLDS = {
    "text": {"string"},
    "word": {"enum"},
    "time": {"long"},
    "number": {"int", "long", "float", "double"},
    "yes or no": {"boolean"},
    **{
        opaque: {"bytes"}
        for opaque in (
            *("numbers", "pseudonym", "digest", "keyed hash"),
            *("sealed", "counts", "content"),
        )
    },
}
"""What a field may hold, and the types of Avro in which it can."""


class Form(NamedTuple):
    """What a text looks like: one of some words, or as a pattern says."""

    told_by: str
    words: str
    pattern: str

    def takes(self, text: str) -> bool:
        known = self.words and WORDS[self.words](text)
        return bool(known or (self.pattern and re.fullmatch(self.pattern, text)))


def rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="") as file:
        return list(csv.DictReader(file))


FIELDS: Mapping[tuple[str, str], tuple[str, str]] = {
    (row["topic"], row["field"]): (row["holds"], row["form"]) for row in rows("fields.csv")
}
"""Per topic and field what it holds, and of a text the form."""
FORMS = {
    row["form"]: Form(row["told_by"], row["words"], row["pattern"]) for row in rows("forms.csv")
}


def schema_of(topic: str) -> Any:
    return json.loads((SCHEMAS / "events" / f"{EVENTS[topic]}.avsc").read_text())


def fields_of(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Walk a schema, nested records too: the path of each field and its type."""
    match schema:
        case list():
            for branch in schema:
                yield from fields_of(branch, path) if branch != "null" else ()
        case str():
            yield path, schema
        case {"type": "record", "fields": fields}:
            for field in fields:
                yield from fields_of(field["type"], f"{path}.{field['name']}".lstrip("."))
        case {"type": "array", "items": items}:
            yield from fields_of(items, f"{path}[]")
        case {"type": kind}:
            yield path, kind
        case _:
            raise TypeError(f"no schema at {path}")


def differences(topic: str, schema: Any) -> list[str]:
    """Hold a schema against the list: what only one of both has, and types that do not agree."""
    listed = {field: of for (where, field), of in FIELDS.items() if where == topic}
    found = dict(fields_of(schema))
    only = [f"{field} is in the schema alone" for field in found.keys() - listed.keys()]
    only += [f"{field} is in the list alone" for field in listed.keys() - found.keys()]
    return only + [
        f"{field} is no {listed[field][0]}"
        for field in found.keys() & listed.keys()
        if found[field] not in HOLDS[listed[field][0]]
    ]


def texts(content: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Give every text of an event, with the path of its field."""
    match content:
        case str():
            yield path, content
        case Mapping():
            for name, value in content.items():
                yield from texts(value, f"{path}.{name}".lstrip("."))
        case list():
            for value in content:
                yield from texts(value, f"{path}[]")
        case _:
            return


def strangers(topic: str, event: msgspec.Struct) -> list[str]:
    """Name the fields of an event whose text does not have its form."""
    return [
        f"{topic} {path}"
        for path, text in texts(msgspec.to_builtins(event, builtin_types=(bytes,)))
        if (form := FIELDS[topic, path][1]) and not FORMS[form].takes(text)
    ]


def _cells(table: str, column: str, **where: str) -> frozenset[str]:
    with (SCHEMAS / "terminology" / table).open(newline="") as file:
        return frozenset(
            row[column] for row in csv.DictReader(file) if where.items() <= row.items()
        )


_BANDS = {UNKNOWN, age_band(999.0), *(name for _, name in AGE_BANDS)}
_SPOKEN = ("sex", "race", "ethnicity", "payer", "language", "unit")


def _label(text: str) -> bool:
    return text in _BANDS or any(FORMS[form].takes(text) for form in _SPOKEN)


def _cohort(text: str) -> bool:
    pairs = [part.partition("=") for part in text.split("&")]
    return text == "all" or all(
        FORMS["source"].takes(label) if name == "source" else name in DIMENSIONS and _label(label)
        for name, _, label in pairs
    )


def _signal(text: str) -> bool:
    found = re.fullmatch(r"([a-z_]+)-([A-Za-z0-9_.]*)-(.+)-\d+", text)
    return bool(found and found[1] in {*MEASURES, *MATTERS} and _cohort(found[3]))


def _summary(text: str) -> bool:
    found = re.fullmatch(
        r"([a-z_]+)(?: of [A-Za-z0-9_.]+)?(?: in (.+?))?"
        r"(?: is ok again|: (?:ok|watch|alarm|insufficient)(?:, \w+ than the reference)?)",
        text,
    )
    return bool(found and found[1] in {*MEASURES, *MATTERS} and _cohort(found[2] or "all"))


def _one_of(*words: str) -> Callable[[str], bool]:
    return frozenset(words).__contains__


WORDS: Mapping[str, Callable[[str], bool]] = {
    "codes.csv": _one_of("", *_cells("codes.csv", "loinc")),
    "units.csv": _one_of("", *_cells("units.csv", "unit")),
    "resources.csv": _one_of(*_cells("resources.csv", "resource")),
    "places.csv": terminology().places.is_unit,
    **{
        f"people.csv {kind}": _one_of(*_cells("people.csv", "label", dimension=kind))
        for kind in ("race", "ethnicity", "payer")
    },
    "feedback reasons": _one_of("", *REASONS),
    "feedback roles": _one_of("", *ROLES),
    "feedback actions": _one_of(*ACTIONS),
    "cohort labels": _label,
    "cohorts": _cohort,
    "signal ids": _signal,
    "signal summaries": _summary,
}
