"""Each service with exactly the environment of docker-compose.yml; addresses and paths aside."""

import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from composed import ALL, DOCKERFILE, IN_IMAGE, OURS, PROGRAMS

from services.local.home import REPO
from services.local.kafka import Broker
from services.local.ports import free_port

pytestmark = pytest.mark.wire
DEADLINE_S = 60.0
BIN = Path(sys.executable).parent


class Stack(NamedTuple):
    environments: Mapping[str, Mapping[str, str]]
    secrets: Path
    logs: Path

    def port(self, name: str) -> int:
        return int(self.environments[name][PROGRAMS[name].told_by])

    def token(self) -> str:
        return (self.secrets / "metrics_token").read_text().strip()

    def unready(self, name: str) -> str:
        """Ask as the image's health check does; empty when ready."""
        check = re.findall(r'CMD \["python", "/opt/vigil/(.+)"\]', DOCKERFILE)[0]
        command = [sys.executable, REPO / check]
        done = subprocess.run(
            command, env=self.environments[name], cwd=REPO, capture_output=True, check=False
        )
        return done.stderr.decode() if done.returncode else ""


def environment(name: str, places: Mapping[str, str]) -> dict[str, str]:
    told = {**IN_IMAGE, **OURS[name]["environment"]}
    if name in PROGRAMS:
        told[PROGRAMS[name].told_by] = str(free_port())
    for there, here in places.items():
        told = {key: value.replace(there, here) for key, value in told.items()}
    return {**told, "PATH": f"{BIN}:/usr/bin:/bin", "PYTHONPATH": str(REPO)}


@pytest.fixture(scope="module")
def stack(
    jar_cache: Path, clickhouse: tuple[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Kafka of its own, an engine, secrets as the script makes them, and all six services."""
    folder = tmp_path_factory.mktemp("composed")
    subprocess.run([REPO / "infra/docker/secrets.sh", folder / "secrets"], check=True)
    node = Broker(folder / "kafka", free_port(), cache=jar_cache)
    host, port = clickhouse
    places = {
        "kafka:19092": node.bootstrap,
        "http://clickhouse:8123/default": f"http://{host}:{port}/composed",
        "/run/secrets": str(folder / "secrets"),
        "/var/lib/vigil": str(folder / "home"),
        "/opt/vigil": str(REPO),
    }
    environments = {name: environment(name, places) for name in OURS}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        node.start()
        prepare = OURS["prepare"]["command"]
        subprocess.run(prepare, env=environments["prepare"], cwd=REPO, check=True)
        for name in PROGRAMS:
            with (folder / f"{name}.log").open("wb") as log:
                line = [str(BIN / "python"), *OURS[name]["command"][1:]]
                processes.append(
                    subprocess.Popen(line, env=environments[name], cwd=REPO, stderr=log)
                )
        yield Stack(environments, folder / "secrets", folder)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(DEADLINE_S)
        node.stop()


def asked(port: int, path: str, token: str = "", body: bytes | None = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers["Content-Type"] = "application/fhir+json"
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own server
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_service_becomes_ready_and_shows_its_metrics_for_the_token_alone(
    stack: Stack, name: str
) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while why := stack.unready(name):
        assert time.monotonic() < deadline, (why, (stack.logs / f"{name}.log").read_text())
        time.sleep(0.2)
    assert asked(stack.port(name), "/metrics")[0] == 401
    status, exposition = asked(stack.port(name), "/metrics", stack.token())
    assert status == 200
    assert f'vigil_ready{{service="{name}"}} 1.0'.encode() in exposition
    if promtool := shutil.which("promtool"):
        done = subprocess.run(
            [promtool, "check", "metrics"], input=exposition, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_gateway_takes_a_message_from_who_has_the_token_alone(stack: Stack) -> None:
    token = (stack.secrets / "source_west_token").read_text().strip()
    port, body = stack.port("gateway"), b'{"resourceType": "Patient", "id": "synthetic-1"}'
    assert asked(port, "/fhir", body=body)[0] == 401
    assert asked(port, "/fhir", stack.token(), body)[0] == 401
    assert asked(port, "/fhir", token, body)[0] == 202


def test_the_server_is_of_the_version_of_the_engine(clickhouse: tuple[str, int]) -> None:
    host, port = clickhouse
    with urllib.request.urlopen(f"http://{host}:{port}/?query=SELECT%20version()") as answer:
        version = answer.read().decode()
    assert version.startswith(ALL["clickhouse"]["image"].partition(":")[2] + ".")
