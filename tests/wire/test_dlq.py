"""Ingest as a process on the real broker, and `vigil dlq` on what it could not use."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from builders import (
    PAYLOAD_KEY,
    PSEUDONYM_KEY,
    SCHEMAS,
    Resource,
    body,
    observation,
    patient,
    quantity,
    record,
)
from lives import PATIENCE_S, Lives, until

from services.core.errors import ExitCode
from services.local.home import REPO
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.kafka.admin import create_topic, partitions_of
from services.runtime.kafka.client import Options
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import scan
from services.runtime.ports import Output
from services.runtime.topics.files import read_topics

pytestmark = pytest.mark.wire

BAD: tuple[Resource | bytes, ...] = (
    observation(status="Zebediah"),
    observation(status=None),
    body(observation()).replace(b'"value": 80', b'"value": NaN'),
)
GOOD: tuple[Resource | bytes, ...] = (
    patient(),
    observation(),
    observation(id="o-2", valueQuantity=quantity(90, "/min")),
)


class Running(NamedTuple):
    options: Options
    environment: dict[str, str]


def count(options: Options, topic: str) -> int:
    return sum(1 for _ in scan(options, partitions_of(options, [topic]), patience_s=PATIENCE_S))


def send(options: Options) -> None:
    publisher = Publisher(options)
    for offset, content in enumerate((BAD[0], *GOOD, *BAD[1:])):
        raw = record(content, offset=offset)
        output = Output(raw.topic, b"affinity", raw.value, headers=raw.headers)
        publisher.send(output, lambda delivered: None)  # noqa: ARG005 - the flush tells
    assert publisher.flush(PATIENCE_S) == 0


def key_files(folder: Path) -> dict[str, str]:
    paths = {}
    for name, key in (("PSEUDONYM", PSEUDONYM_KEY), ("PAYLOAD", PAYLOAD_KEY)):
        path = folder / name
        path.write_text(key.hex())
        path.chmod(0o600)
        paths[f"VIGIL_{name}_KEY_FILE"] = str(path)
    return paths


@pytest.fixture(scope="module")
def running(jar_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A broker with three good and three bad records, read by ingest."""
    folder = tmp_path_factory.mktemp("dlq")
    node = Broker(folder / "kafka", free_port(), cache=jar_cache).start()
    options: Options = {"bootstrap.servers": node.bootstrap}
    told = {
        "KAFKA_BOOTSTRAP_SERVERS": node.bootstrap,
        "VIGIL_SCHEMAS": str(SCHEMAS),
        "VIGIL_HOME": str(folder),
    }
    environment = {**os.environ, **told, **key_files(folder)}
    for topic in read_topics(SCHEMAS):
        create_topic(options, topic.topic, partitions=4, config=topic.settings())
    send(options)
    command = [sys.executable, "-m", "services.ingest"]
    try:
        with Lives("ingest", command, folder / "ingest.log", environment) as ingest:
            until(lambda: count(options, "receipts.v1") == len(BAD) + len(GOOD))
            yield Running(options, environment)
            assert ingest.end() == ExitCode.OK
    finally:
        node.stop()


def vigil(running: Running, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "services.cli.main", "dlq", *arguments]
    return subprocess.run(
        command, cwd=REPO, env=running.environment, capture_output=True, text=True, check=False
    )


def told(running: Running, *arguments: str) -> Any:
    answer = vigil(running, *arguments, "--json")
    assert answer.returncode == ExitCode.OK, answer.stderr
    return json.loads(answer.stdout)


def test_good_records_go_on_between_bad_ones(running: Running) -> None:
    assert count(running.options, "vitals.v1") == len(GOOD)
    assert count(running.options, "dlq.v1") == len(BAD)


def test_list_names_reason_and_place_of_each_letter(running: Running) -> None:
    answer = told(running, "list")
    assert (answer["schema"], answer["found"]) == ("vigil.dlq.list/1", len(BAD))
    assert sorted((x["reason"], x["place"]) for x in answer["letters"]) == [
        ("FHIR_STATUS", "Observation.status"),
        ("FHIR_STATUS", "Observation.status"),
        ("JSON_NONFINITE", "document"),
    ]


def test_list_can_be_narrowed(running: Running) -> None:
    assert told(running, "list", "--reason", "JSON_NONFINITE")["found"] == 1
    assert told(running, "list", "--source", "east")["found"] == 0
    latest = told(running, "list", "--limit", "1")
    assert (latest["found"], len(latest["letters"])) == (len(BAD), 1)
    assert "JSON_NONFINITE" in vigil(running, "list").stdout


def test_show_names_the_faults_and_no_value(running: Running) -> None:
    letters = {x["record"]: x["letter"] for x in told(running, "list")["letters"]}
    places = []
    for letter in letters.values():
        answer = vigil(running, "show", letter, "--json")
        assert answer.returncode == ExitCode.OK, answer.stderr
        assert "Zebediah" not in answer.stdout + answer.stderr
        places += [fault["place"] for fault in json.loads(answer.stdout)["faults"]]
    assert sorted(places) == ["Observation.status", "Observation.valueQuantity.value"]
    plain = vigil(running, "show", letters[min(letters)])
    assert "FHIR_STATUS" in plain.stdout
    assert "fhir.resources finds no fault" in plain.stdout


def test_show_needs_the_key_and_an_existing_letter(running: Running) -> None:
    first = told(running, "list")["letters"][0]["letter"]
    without = running._replace(
        environment={**running.environment, "VIGIL_PAYLOAD_KEY_FILE": "/nonexistent"}
    )
    assert vigil(without, "show", first).returncode == ExitCode.CONFIGURATION
    assert vigil(running, "show", "0-999999").returncode == ExitCode.USAGE


@pytest.mark.parametrize("name", ["PSEUDONYM", "PAYLOAD"])
def test_ingest_does_not_start_with_a_key_that_others_may_read(
    running: Running, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "key"
    path.write_text("ab" * 32)
    path.chmod(0o644)
    environment = {**running.environment, f"VIGIL_{name}_KEY_FILE": str(path)}
    command = [sys.executable, "-m", "services.ingest"]
    answer = subprocess.run(
        command,
        cwd=REPO,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == ExitCode.CONFIGURATION
    assert "chmod 600" in answer.stderr
    assert "ab" * 32 not in answer.stderr


def test_a_replay_hands_letters_in_once_however_often_it_is_asked_for(running: Running) -> None:
    before = count(running.options, "receipts.v1")
    assert told(running, "replay", "--reason", "JSON_NONFINITE", "--dry-run")["sent"] == 1
    assert count(running.options, "fhir.raw.v1") == len(BAD) + len(GOOD)
    first = told(running, "replay", "--reason", "JSON_NONFINITE")
    assert (first["sent"], first["sent_before"]) == (1, 0)
    until(lambda: count(running.options, "receipts.v1") == before + 1)
    letters = told(running, "list", "--reason", "JSON_NONFINITE")["letters"]
    assert len(letters) == 2, "it is refused again: nothing was mended"
    second = told(running, "replay", min(letters, key=_offset)["letter"])
    assert (second["sent"], second["sent_before"]) == (0, 1)
    assert count(running.options, "fhir.raw.v1") == len(BAD) + len(GOOD) + 1
    assert vigil(running, "replay").returncode == ExitCode.USAGE


def _offset(letter: dict[str, Any]) -> int:
    return int(letter["record"].rpartition("-")[2])


def test_letters_are_chosen_by_time(running: Running) -> None:
    assert told(running, "list", "--since", "2026-01-06")["found"] == 0
    assert told(running, "list", "--until", "2026-01-06", "--reason", "FHIR_STATUS")["found"] == 2
    assert vigil(running, "list", "--since", "yesterday").returncode == ExitCode.USAGE
