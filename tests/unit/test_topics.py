import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.core.errors import CommandError
from services.runtime.topics.files import Topic, read_topics
from services.runtime.topics.history import freeze, incompatible, unfrozen
from services.runtime.topics.plan import Change, plan

TOPIC = Topic(
    topic="beats.v1",
    description="Heart beats.",
    key="patient pseudonym",
    event=None,
    partitioned_by="patient",
    phi=False,
    producers=["ingest"],
    consumers=["scoring"],
    config={"cleanup.policy": "delete", "retention.ms": 1000},
)
SETTINGS = {"cleanup.policy": "delete", "retention.ms": "1000"}


class Held(msgspec.Struct, frozen=True):
    partitions: int
    config: dict[str, str]


def test_a_missing_topic_is_created_with_its_settings() -> None:
    found = plan([TOPIC], {}, partitions=4)
    assert found.refused == []
    assert found.changes == [
        Change(topic="beats.v1", action="create", partitions=4, config=SETTINGS, before={})
    ]


def test_what_is_as_its_file_says_is_left_alone() -> None:
    held = {"beats.v1": Held(4, {**SETTINGS, "unrelated": "1"}), "theirs": Held(9, {})}
    found = plan([TOPIC], held, partitions=4)
    assert (found.changes, found.refused) == ([], [])


def test_only_the_settings_that_differ_are_set() -> None:
    held = {"beats.v1": Held(4, {"cleanup.policy": "delete", "retention.ms": "5"})}
    (change,) = plan([TOPIC], held, partitions=4).changes
    assert change.action == "configure"
    assert change.config == {"retention.ms": "1000"}
    assert change.before == {"retention.ms": "5"}


@pytest.mark.parametrize("partitions", [3, 5])
def test_a_changed_number_of_partitions_is_refused(partitions: int) -> None:
    found = plan([TOPIC], {"beats.v1": Held(4, {})}, partitions=partitions)
    assert [refused.subject for refused in found.refused] == ["beats.v1"]
    assert found.changes == []


def test_a_topic_may_state_its_own_number_of_partitions() -> None:
    alone = msgspec.structs.replace(TOPIC, partitions=1)
    (change,) = plan([alone], {}, partitions=4).changes
    assert change.partitions == 1


def test_a_keyed_topic_that_states_its_number_may_hold_more_and_no_other_may() -> None:
    stated = msgspec.structs.replace(TOPIC, partitions=1, partitioned_by="key")
    for topic, held, refused in (
        (stated, 4, False),
        (msgspec.structs.replace(stated, partitions=8), 4, True),
        (msgspec.structs.replace(stated, partitioned_by="none"), 4, True),
        (msgspec.structs.replace(stated, partitions=None), 8, True),
    ):
        found = plan([topic], {"beats.v1": Held(held, SETTINGS)}, partitions=4)
        assert (bool(found.refused), found.changes) == (refused, [])


def test_an_unknown_word_in_a_topic_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "topics").mkdir()
    text = msgspec.yaml.encode({**msgspec.to_builtins(TOPIC), "retention": 1})
    (tmp_path / "topics" / "beats.v1.yaml").write_bytes(text)
    with pytest.raises(CommandError, match="retention"):
        read_topics(tmp_path)


def test_a_file_is_named_after_its_topic(tmp_path: Path) -> None:
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics" / "other.yaml").write_bytes(msgspec.yaml.encode(TOPIC))
    with pytest.raises(CommandError, match=r"other\.yaml"):
        read_topics(tmp_path)


def test_a_folder_without_topic_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no topic files"):
        read_topics(tmp_path)


Fields = list[dict[str, Any]]
BEATS: Fields = [
    {"name": "rate", "type": "int"},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
]


def write(schemas: Path, fields: Fields) -> None:
    (schemas / "events").mkdir(exist_ok=True)
    schema = {"type": "record", "name": "Beats", "namespace": "vigil.v1", "fields": fields}
    (schemas / "events" / "Beats.avsc").write_text(json.dumps(schema))


def test_freezing_twice_writes_once(tmp_path: Path) -> None:
    write(tmp_path, BEATS)
    assert len(freeze(tmp_path)) == 1
    assert freeze(tmp_path) == []
    assert unfrozen(tmp_path) == []


def test_a_frozen_schema_is_never_written_again(tmp_path: Path) -> None:
    write(tmp_path, BEATS)
    (path,) = freeze(tmp_path)
    before = path.read_text()
    write(tmp_path, [{**BEATS[0], "doc": "Beats a minute."}, BEATS[1]])
    assert freeze(tmp_path) == []
    assert path.read_text() == before


def test_a_new_field_with_a_default_is_compatible_both_ways(tmp_path: Path) -> None:
    write(tmp_path, BEATS)
    freeze(tmp_path)
    write(tmp_path, [*BEATS, {"name": "unit", "type": "string", "default": ""}])
    assert incompatible(tmp_path) == []
    assert len(freeze(tmp_path)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([*BEATS, {"name": "unit", "type": "string"}], id="new without default"),
        pytest.param(BEATS[1:], id="gone without default"),
        pytest.param([{"name": "rate", "type": "long"}, BEATS[1]], id="wider"),
        pytest.param([{"name": "rate", "type": "string"}, BEATS[1]], id="other type"),
        pytest.param([{"name": "pulse", "type": "int"}, BEATS[1]], id="renamed"),
        pytest.param(
            [BEATS[0], {"name": "kind", "type": {**BEATS[1]["type"], "symbols": ["A", "B", "C"]}}],
            id="new symbol",
        ),
    ],
)
def test_an_incompatible_schema_is_not_landed(tmp_path: Path, fields: Fields) -> None:
    write(tmp_path, BEATS)
    freeze(tmp_path)
    write(tmp_path, fields)
    assert {refused.subject for refused in incompatible(tmp_path)} == {"Beats.avsc"}
    with pytest.raises(CommandError, match=r"Beats\.avsc is incompatible"):
        freeze(tmp_path)
    assert len(list((tmp_path / "history").iterdir())) == 1


def test_compatibility_is_held_against_all_of_the_past(tmp_path: Path) -> None:
    write(tmp_path, BEATS)
    freeze(tmp_path)
    unit = {"name": "unit", "type": "string", "default": ""}
    write(tmp_path, [*BEATS, unit])
    freeze(tmp_path)
    write(tmp_path, [*BEATS, {"name": "unit", "type": "string"}])
    (refused,) = incompatible(tmp_path)
    assert "cannot read what" in refused.why


def test_a_file_that_is_no_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "Beats.avsc").write_text('{"type": "reco')
    with pytest.raises(CommandError, match="no Avro schema"):
        freeze(tmp_path)
