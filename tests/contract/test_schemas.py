import io
import json
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import msgspec
import pytest

from services.local.home import REPO
from services.runtime.codec import EVENTS, HEADER_BYTES, Codec, fingerprint
from services.runtime.topics.files import read_topics
from services.runtime.topics.history import incompatible, read_schemas, unfrozen

SCHEMAS = REPO / "schemas"
TODAY = sorted((SCHEMAS / "events").glob("*.avsc"))
EVERY = [*TODAY, *sorted((SCHEMAS / "history").glob("*.avsc"))]
CODEC = Codec(SCHEMAS)
PRIMITIVE = {
    "null": "null",
    "boolean": "bool",
    "string": "str",
    "bytes": "bytes",
    "int": "int",
    "long": "int",
    "float": "float",
    "double": "float",
}

by_name = pytest.mark.parametrize("path", TODAY, ids=lambda path: path.stem)
in_history_too = pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)


def struct_shape(hint: Any) -> Any:
    """A type of `core.events` in the words of Avro, null first in a union."""
    match hint:
        case msgspec.inspect.UnionType(types=types):
            return sorted((struct_shape(t) for t in types), key=lambda shape: shape != "null")
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            return (cls.__name__, [(field.name, struct_shape(field.type)) for field in fields])
        case msgspec.inspect.EnumType(cls=cls):
            return (cls.__name__, [str(member.value) for member in cls])
        case msgspec.inspect.ListType(item_type=item):
            return {"items": struct_shape(item)}
        case msgspec.inspect.NoneType():
            return "null"
        case _:
            return type(hint).__name__.removesuffix("Type").lower()


def schema_shape(schema: Any) -> Any:
    """A schema in the same words."""
    if isinstance(schema, list):
        return [schema_shape(part) for part in schema]
    if isinstance(schema, str):
        return PRIMITIVE[schema]
    if schema["type"] == "record":
        fields = [(field["name"], schema_shape(field["type"])) for field in schema["fields"]]
        return (schema["name"], fields)
    if schema["type"] == "enum":
        return (schema["name"], schema["symbols"])
    return {"items": schema_shape(schema["items"])}


@by_name
def test_an_event_and_its_schema_have_the_same_fields_in_the_same_order(path: Path) -> None:
    schema = json.loads(path.read_text())
    assert schema_shape(schema) == struct_shape(msgspec.inspect.type_info(EVENTS[path.stem]))


@by_name
def test_what_an_old_message_lacks_reads_as_the_default_of_its_schema(path: Path) -> None:
    schema = json.loads(path.read_text())
    event = msgspec.inspect.type_info(EVENTS[path.stem])
    assert isinstance(event, msgspec.inspect.StructType)
    ours = {field.name: default_of(field) for field in event.fields}
    theirs = {f["name"]: f["default"] for f in schema["fields"] if "default" in f}
    assert {name: ours[name] for name in theirs} == theirs


def default_of(field: msgspec.inspect.Field) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default.decode("latin-1") if isinstance(field.default, bytes) else field.default


def test_every_event_has_a_schema_and_every_schema_an_event() -> None:
    assert {path.stem for path in TODAY} == set(EVENTS)


@in_history_too
def test_avro_and_fastavro_give_the_same_fingerprint(path: Path) -> None:
    official = avro.schema.parse(path.read_text()).fingerprint("CRC-64-AVRO")
    assert fingerprint(json.loads(path.read_text())) == official


@in_history_too
def test_no_schema_has_a_logical_type(path: Path) -> None:
    # The official package keeps {"type": "long"} in the canonical form of one, against the
    # specification: readers would disagree about the fingerprint.
    assert "logicalType" not in path.read_text()


@in_history_too
def test_every_part_of_a_schema_is_described(path: Path) -> None:
    def described(part: Any) -> bool:
        if isinstance(part, list):
            return all(described(each) for each in part)
        if not isinstance(part, dict):
            return True
        own = "doc" in part or not ({"fields", "symbols"} & part.keys() or "name" in part)
        return own and all(described(part[k]) for k in ("type", "fields", "items") if k in part)

    assert described(json.loads(path.read_text()))


@in_history_too
def test_no_schema_can_call_itself(path: Path) -> None:
    # A recursive schema lets 200 kB of nesting overflow the C stack of a reader.
    names: list[str] = []

    def walk(part: Any) -> None:
        if isinstance(part, list):
            for each in part:
                walk(each)
        elif isinstance(part, dict):
            names.extend([part["name"]] if {"fields", "symbols"} & part.keys() else [])
            for key in ("type", "fields", "items"):
                walk(part.get(key))
        elif isinstance(part, str):
            assert part not in names

    walk(json.loads(path.read_text()))
    assert names


@in_history_too
def test_no_array_holds_items_of_no_bytes(path: Path) -> None:
    # Six bytes could claim 2^28 of them.
    assert '"items": "null"' not in path.read_text()


def test_todays_schemas_live_with_every_schema_of_the_past() -> None:
    assert incompatible(SCHEMAS) == []


def test_every_schema_of_today_is_in_history_where_outsiders_look_for_it() -> None:
    names = [schema.path.name for schema in unfrozen(SCHEMAS)]
    assert names == [], "run `vigil topics freeze`"


def test_history_is_named_by_fingerprint() -> None:
    past = read_schemas(SCHEMAS / "history")
    assert past
    assert [old.path.stem for old in past] == [old.fingerprint for old in past]


def test_every_event_has_a_past() -> None:
    assert {old.name for old in read_schemas(SCHEMAS / "history")} == {
        f"vigil.v1.{name}" for name in EVENTS
    }


TOPICS = read_topics(SCHEMAS)
EXAMPLES = sorted((SCHEMAS / "examples").glob("*/*.json"))
OF_EVENTS = [path for path in EXAMPLES if json.loads(path.read_text())["event"]]


def test_every_topic_that_others_read_has_an_example() -> None:
    assert {path.parent.name for path in EXAMPLES} == {
        topic.topic for topic in TOPICS if not topic.topic.endswith("-changelog")
    }


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.topic)
def test_a_topic_file_names_an_event_and_services_that_exist(topic: Any) -> None:
    assert topic.event is None or topic.event in EVENTS
    folders = {path.parent.name for path in (REPO / "services").glob("*/__init__.py")}
    assert {*topic.producers, *topic.consumers} <= folders
    assert topic.producers


def test_topics_keyed_by_patient_all_have_the_same_number_of_partitions() -> None:
    assert {t.partitions for t in TOPICS if t.partitioned_by == "patient"} == {None}


def test_state_that_must_never_expire_is_compacted_and_nothing_else_is() -> None:
    compacted = {t.topic for t in TOPICS if t.settings()["cleanup.policy"] == "compact"}
    assert compacted == {
        "identity.v1",
        "patients.v1",
        "scoring-changelog",
        "ingest-changelog",
        "labelling-changelog",
        "monitoring-folds-changelog",
        "monitoring-merged-changelog",
    }
    assert all(t.settings()["retention.ms"] == "-1" for t in TOPICS if t.topic in compacted)


def example(path: Path) -> tuple[type[msgspec.Struct], dict[str, Any], bytes]:
    stored = json.loads(path.read_text())
    schema = json.loads((SCHEMAS / "events" / f"{stored['event']}.avsc").read_text())
    fields = {f["name"]: unhexed(stored["value"][f["name"]], f["type"]) for f in schema["fields"]}
    return EVENTS[stored["event"]], fields, bytes.fromhex(stored["wire"])


def unhexed(value: Any, kind: Any) -> Any:
    return bytes.fromhex(value) if kind == "bytes" else value


of_events = pytest.mark.parametrize(
    "path", OF_EVENTS, ids=lambda path: f"{path.parent.name}/{path.stem}"
)


@of_events
def test_an_example_has_the_bytes_it_always_had(path: Path) -> None:
    event, fields, wire = example(path)
    assert CODEC.encode(msgspec.convert(fields, event)) == wire
    assert CODEC.decode(wire, event) == msgspec.convert(fields, event)


@of_events
def test_an_example_is_an_event_of_its_topic(path: Path) -> None:
    (topic,) = [t for t in TOPICS if t.topic == path.parent.name]
    assert json.loads(path.read_text())["event"] == topic.event


@of_events
def test_the_official_package_reads_an_example_as_we_do(path: Path) -> None:
    event, _, wire = example(path)
    schema = avro.schema.parse((SCHEMAS / "events" / f"{event.__name__}.avsc").read_text())
    body = avro.io.BinaryDecoder(io.BytesIO(wire[HEADER_BYTES:]))
    assert avro.io.DatumReader(schema).read(body) == CODEC.decode_fields(wire)[1]


@pytest.mark.parametrize(
    "path", sorted((SCHEMAS / "examples" / "fhir.raw.v1").glob("*.json")), ids=lambda p: p.stem
)
def test_a_raw_example_has_the_headers_of_the_gateway(path: Path) -> None:
    stored = json.loads(path.read_text())
    headers = ["content-type", "source", "received_at", "accepted_at", "ingest_id"]
    assert list(stored["headers"]) == headers
    assert int(stored["headers"]["received_at"]) > 1_700_000_000_000_000
