import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from services.cli.topics import app
from services.core.errors import CommandError
from services.local.home import REPO
from services.runtime.kafka.admin import create_topic, set_config, topics
from services.runtime.kafka.reader import ends
from services.runtime.topics.files import read_topics

pytestmark = pytest.mark.wire


class Cluster:
    """The commands against a cluster, with topic files whose names no other test uses."""

    def __init__(self, bootstrap: str, schemas: Path, prefix: str) -> None:
        self.options = {"bootstrap.servers": bootstrap}
        self.schemas, self.prefix = schemas, prefix
        self.env = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "VIGIL_SCHEMAS": str(schemas)}

    def run(self, *arguments: str, **env: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={**self.env, **env})

    def held(self) -> dict[str, Any]:
        every = topics(self.options)
        return {name: state for name, state in every.items() if name.startswith(self.prefix)}

    def drift(self, name: str) -> None:
        """Somebody sets a topic's retention by hand."""
        set_config(self.options, name, {"retention.ms": "1234"})
        deadline = time.monotonic() + 120
        while self.held()[name].config["retention.ms"] != "1234":
            assert time.monotonic() < deadline, "the setting did not arrive"
            time.sleep(0.05)


PARTITIONS = {topic.topic: topic.partitions or 4 for topic in read_topics(REPO / "schemas")}


@pytest.fixture
def cluster(kafka: str, tmp_path: Path) -> Cluster:
    schemas, prefix = tmp_path / "schemas", f"t{uuid4().hex[:8]}."
    shutil.copytree(REPO / "schemas", schemas)
    for path in list((schemas / "topics").glob("*.yaml")):
        path.write_text(path.read_text().replace("topic: ", f"topic: {prefix}", 1))
        path.rename(path.with_name(prefix + path.name))
    return Cluster(kafka, schemas, prefix)


def test_applying_twice_changes_a_cluster_once(cluster: Cluster) -> None:
    before = cluster.run("diff", "--json")
    assert before.exit_code == 1
    assert {c["action"] for c in json.loads(before.stdout)["changes"]} == {"create"}
    assert cluster.run("apply", "--yes").exit_code == 0
    held = cluster.held()
    assert {n.removeprefix(cluster.prefix): s.partitions for n, s in held.items()} == PARTITIONS
    assert len(held) == len(list((cluster.schemas / "topics").iterdir()))
    assert cluster.run("diff").exit_code == 0
    again = cluster.run("apply", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == {
        "schema": "vigil.topics.apply/1",
        "changes": [],
        "refused": [],
    }
    assert cluster.held() == held


def test_a_topic_that_was_created_can_be_asked_for_its_ends_at_once(kafka: str) -> None:
    options, name = {"bootstrap.servers": kafka}, f"t{uuid4().hex}"
    # What the broker learns from its controller waits while it makes the folders of many.
    create_topic(options, f"{name}.many", partitions=50, config={})
    create_topic(options, name, partitions=4, config={})
    assert set(ends(options, [(name, number) for number in range(4)]).values()) == {0}


def test_a_partition_that_a_broker_does_not_know_yet_is_asked_for_again(kafka: str) -> None:
    options, name = {"bootstrap.servers": kafka}, f"t{uuid4().hex}"
    later = threading.Timer(0.5, create_topic, (options, name), {"partitions": 1, "config": {}})
    later.start()
    assert ends(options, [(name, 0)]) == {(name, 0): 0}
    later.join()


def test_a_setting_that_drifted_is_set_back(cluster: Cluster) -> None:
    cluster.run("apply", "--yes")
    name = f"{cluster.prefix}vitals.v1"
    cluster.drift(name)
    (change,) = json.loads(cluster.run("diff", "--json").stdout)["changes"]
    assert (change["topic"], change["before"]) == (name, {"retention.ms": "1234"})
    assert cluster.run("apply", "--yes").exit_code == 0
    assert cluster.run("diff").exit_code == 0


def test_a_changed_number_of_partitions_is_refused_and_nothing_is_done(cluster: Cluster) -> None:
    cluster.run("apply", "--yes")
    held = cluster.held()
    name = f"{cluster.prefix}vitals.v1"
    cluster.drift(name)
    refused = cluster.run("apply", "--yes", VIGIL_PARTITIONS="8")
    assert isinstance(refused.exception, CommandError)
    assert "4 partitions and 8 are asked for" in refused.exception.what
    assert cluster.held()[name].partitions == 4
    assert cluster.held()[name].config["retention.ms"] == "1234"
    assert cluster.held().keys() == held.keys()


def test_an_incompatible_schema_stops_every_change(cluster: Cluster) -> None:
    path = cluster.schemas / "events" / "Alert.avsc"
    schema = json.loads(path.read_text())
    schema["fields"].append({"name": "shout", "type": "string"})
    path.write_text(json.dumps(schema))
    refused = cluster.run("apply", "--yes")
    assert isinstance(refused.exception, CommandError)
    assert "Alert.avsc" in refused.exception.what
    assert cluster.held() == {}


def test_nothing_changes_when_nobody_can_be_asked(cluster: Cluster) -> None:
    refused = cluster.run("apply")
    assert isinstance(refused.exception, CommandError)
    assert "--yes" in refused.exception.remedy
    assert cluster.held() == {}
