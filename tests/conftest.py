"""The real Kafka and the real ClickHouse engine for tests, started when first asked for."""

import gc
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
from learned import learned

from services.local import jars
from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port

READY_S = 120.0
# How long an example takes says how busy the machine is; `timeout` of pytest ends what hangs.
hypothesis.settings.register_profile("vigil", deadline=None)
hypothesis.settings.load_profile("vigil")
# A test's broker lives for seconds: what the JVM's second compiler would win comes too late.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among modules, neither while they are imported nor later: they stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that wait for Kafka among those that compute, for two processes side by side."""
    files = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    waiting = [tests for tests in files if tests[0].get_closest_marker("wire")]
    computing = [tests for tests in files if not tests[0].get_closest_marker("wire")]
    many = -(-len(computing) // max(len(waiting), 1))
    turns = [
        [*first, *chain(*computing[many * place : many * (place + 1)])]
        for place, first in enumerate(waiting or [[]])
    ]
    items[:] = chain(*turns)


class Address(NamedTuple):
    host: str
    port: int


class Engine:
    """One process that serves ClickHouse from a folder."""

    def __init__(self, data: Path) -> None:
        self.address = Address("127.0.0.1", free_port())
        arguments = ["--port", str(self.address.port), "--data", str(data)]
        command = [sys.executable, "-m", "services.local.clickhouse", *arguments]
        self.process = subprocess.Popen(command, cwd=REPO, stderr=subprocess.PIPE, text=True)

    def ready(self) -> Address:
        deadline = time.monotonic() + READY_S
        while not self._pings():
            assert self.process.poll() is None, "the ClickHouse server ended while it started"
            assert time.monotonic() < deadline, "the ClickHouse server did not answer /ping"
            time.sleep(0.05)
        return self.address

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=READY_S)

    def _pings(self) -> bool:
        host, port = self.address
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/ping") as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded patients, which stand beside the repository and never in it."""
    path = REPO.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(reason="the recorded patients (../shared/data) are not on this machine")
    return path


@pytest.fixture(scope="session")
def jar_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache in which every jar of the lock lies."""
    cache = here().cache
    try:
        jars.class_path(cache, jars=jars.locked())
    except jars.Offline as error:
        pytest.skip(reason=f"no Kafka: {error.what}")
    known = learned(cache, tmp_path_factory.mktemp("learning"))
    os.environ["JDK_JAVA_OPTIONS"] += f" -XX:AOTCache={known}"
    return cache


@pytest.fixture(scope="session")
def kafka(jar_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a broker that all tests share: name topics and groups uniquely."""
    node = Broker(tmp_path_factory.mktemp("kafka"), free_port(), cache=jar_cache)
    try:
        yield node.start().bootstrap
    finally:
        node.kill()  # nothing of it is kept


@pytest.fixture
def broker(jar_cache: Path, tmp_path: Path) -> Iterator[Callable[[], Broker]]:
    """Starts a broker of the test's own, to be killed, stopped and started at will."""
    nodes: list[Broker] = []

    def start() -> Broker:
        nodes.append(Broker(tmp_path / f"kafka-{len(nodes)}", free_port(), cache=jar_cache))
        return nodes[-1].start()

    yield start
    for node in nodes:
        node.kill()


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Address of a ClickHouse engine that all tests share: make a database of your own."""
    server = Engine(tmp_path_factory.mktemp("clickhouse"))
    try:
        yield server.ready()
    finally:
        server.stop()


@pytest.fixture
def engine() -> Iterator[Callable[[Path], Engine]]:
    """Starts a ClickHouse server of the test's own on a folder, to be killed and started again."""
    servers: list[Engine] = []

    def start(data: Path) -> Engine:
        servers.append(Engine(data))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
