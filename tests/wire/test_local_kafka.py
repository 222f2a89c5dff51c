"""The broker of the local stack."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from services.core.errors import CommandError
from services.local import jars
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.kafka.admin import access_rules, cluster_id, create_topic, topics
from services.runtime.kafka.publisher import TransactionalPublisher

pytestmark = pytest.mark.wire
ANSWER_S = 60.0
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


def test_a_started_broker_answers_and_opens_transactions(kafka: str) -> None:
    assert len(cluster_id(kafka, ANSWER_S)) == 32
    options = {"bootstrap.servers": kafka}
    publisher = TransactionalPublisher(options, transactional_id=uuid4().hex, timeout_ms=5000)
    publisher.open(ANSWER_S)


def test_a_broker_without_an_authorizer_shows_no_access_rules(kafka: str) -> None:
    assert access_rules({"bootstrap.servers": kafka}) == 0


def test_a_killed_broker_comes_back_with_its_topics_and_its_name(
    broker: Callable[[], Broker],
) -> None:
    node = broker()
    options = {"bootstrap.servers": node.bootstrap}
    name = cluster_id(node.bootstrap, ANSWER_S)
    create_topic(options, "kept", partitions=3, config={})
    node.kill()
    node.start()
    assert cluster_id(node.bootstrap, ANSWER_S) == name
    assert topics(options)["kept"].partitions == 3


def test_a_stopped_broker_leaves_no_process_and_starts_on_another_port(
    jar_cache: Path, tmp_path: Path
) -> None:
    first = Broker(tmp_path, free_port(), cache=jar_cache).start()
    create_topic({"bootstrap.servers": first.bootstrap}, "kept", partitions=1, config={})
    first.stop()
    assert not Path(f"/proc/{first.pid}").exists()
    second = Broker(tmp_path, free_port(), cache=jar_cache).start()
    try:
        assert "kept" in topics({"bootstrap.servers": second.bootstrap})
    finally:
        second.stop()


def test_a_broker_whose_port_is_taken_ends_with_a_sentence(
    kafka: str, jar_cache: Path, tmp_path: Path
) -> None:
    node = Broker(tmp_path, int(kafka.rpartition(":")[2]), cache=jar_cache)
    with pytest.raises(CommandError, match=r"port .* is taken"):
        node.start()


def test_without_network_and_jars_the_sentence_says_to_go_online(tmp_path: Path) -> None:
    with pytest.raises(jars.Offline) as refused:
        jars.class_path(tmp_path, jars=jars.locked(), remote=NOWHERE)
    assert "cannot be fetched" in refused.value.what
    assert "go online once" in refused.value.remedy


def test_every_jar_of_the_lock_is_found_again_without_network(jar_cache: Path) -> None:
    found = jars.class_path(jar_cache, jars=jars.locked(), remote=NOWHERE)
    assert len(found) == len(jars.locked()) > 40


def test_a_jar_with_another_digest_is_not_used(jar_cache: Path, tmp_path: Path) -> None:
    slf4j = [jar for jar in jars.locked() if ":slf4j-api:" in jar.coordinate]
    original = jars.class_path(jar_cache, jars=slf4j)[0]
    copy = tmp_path / original.relative_to(jar_cache)
    copy.parent.mkdir(parents=True)
    shutil.copy(original, copy)
    assert jars.cached(tmp_path, slf4j) == slf4j
    copy.write_bytes(copy.read_bytes() + b"x")
    assert jars.cached(tmp_path, slf4j) == []
    with pytest.raises(jars.Offline):
        jars.class_path(tmp_path, jars=slf4j, remote=NOWHERE)
    assert not copy.exists()


def test_a_repository_that_serves_another_jar_is_named_as_the_cause(
    jar_cache: Path, tmp_path: Path
) -> None:
    slf4j = [jar for jar in jars.locked() if ":slf4j-api:" in jar.coordinate]
    served = tmp_path / "served"
    path = served / jars.class_path(jar_cache, jars=slf4j)[0].relative_to(jar_cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not the jar")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen([*command, "-d", str(served)], stderr=subprocess.PIPE) as repository:
        try:
            assert "another sha256" in _complaint(tmp_path / "cache", slf4j, port)
        finally:
            repository.terminate()


def _complaint(cache: Path, wanted: list[jars.Jar], port: int) -> str:
    """What is said once the repository answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with pytest.raises(CommandError) as refused:
            jars.class_path(cache, jars=wanted, remote=f"http://127.0.0.1:{port}")
        if not isinstance(refused.value, jars.Offline):
            return refused.value.what
    pytest.fail("the repository never answered")
