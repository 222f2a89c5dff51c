"""Each service with exactly the environment of docker-compose.yml; addresses and paths aside."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest
from composed import ALL, DOCKERFILE, IN_IMAGE, OURS, PROGRAMS, kafka_properties
from lives import PATIENCE_S, Lives, until

from services.local.home import REPO
from services.local.kafka import await_answer, prepare
from services.local.ports import free_port
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka.admin import cluster_id
from services.simulator.fhir import Charted, bundle, observation

pytestmark = pytest.mark.wire
BIN = Path(sys.executable).parent


class Stack(NamedTuple):
    environments: Mapping[str, Mapping[str, str]]
    secrets: Path
    kafka: Mapping[int, int]

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

    def await_ready(self, *names: str) -> None:
        for name in names:
            until(lambda name=name: not self.unready(name), f"{name} becomes ready")  # type: ignore[misc]  # bound now


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
    """Kafka and all services as the file has them, secrets as the script makes them."""
    folder = tmp_path_factory.mktemp("composed")
    subprocess.run([REPO / "infra/docker/secrets.sh", folder / "secrets"], check=True)
    host, port = clickhouse
    ports = {number: free_port() for number in (19092, 9092, 9093)}
    places = {
        "kafka:19092": f"127.0.0.1:{ports[19092]}",
        "http://clickhouse:8123/default": f"http://{host}:{port}/composed",
        "/run/secrets": str(folder / "secrets"),
        "/var/lib/vigil": str(folder / "home"),
        "/opt/vigil": str(REPO),
    }
    environments = {name: environment(name, places) for name in OURS}
    with ExitStack() as stack:
        node = kafka(folder / "kafka", ports, jar_cache)
        stack.callback(node.wait)
        stack.callback(node.terminate)
        first = OURS["prepare"]["command"]
        subprocess.run(first, env=environments["prepare"], cwd=REPO, check=True)
        for name in PROGRAMS:
            line, log = [str(BIN / "python"), *OURS[name]["command"][1:]], folder / f"{name}.log"
            stack.enter_context(Lives(name, line, log, environments[name]))
        yield Stack(environments, folder / "secrets", ports)


def kafka(folder: Path, ports: Mapping[int, int], cache: Path) -> subprocess.Popen[bytes]:
    command = prepare(folder, ports[9092], cache=cache)
    told = kafka_properties() | {"log.dirs": str(folder / "log")}
    text = "".join(f"{name}={value}\n" for name, value in told.items())
    text = text.replace("//kafka:", "//127.0.0.1:").replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - the file's
    text = re.sub(r":(19092|9092|9093)\b", lambda found: f":{ports[int(found[1])]}", text)
    Path(command[-1]).write_text(text)
    with (folder / "kafka.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    at = f"127.0.0.1:{ports[19092]}"
    await_answer(at, alive=lambda: process.poll() is None, log=folder / "kafka.log")
    return process


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
    stack.await_ready(name)
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
    stack.await_ready("gateway")
    token = (stack.secrets / "source_west_token").read_text().strip()
    port, body = stack.port("gateway"), b'{"resourceType": "Patient", "id": "synthetic-1"}'
    assert asked(port, "/fhir", body=body)[0] == 401
    assert asked(port, "/fhir", stack.token(), body)[0] == 401
    assert asked(port, "/fhir", token, body)[0] == 202


def test_what_is_sent_with_the_token_becomes_a_score_and_a_row_of_the_ledger(
    stack: Stack, clickhouse: tuple[str, int]
) -> None:
    stack.await_ready("gateway", "ingest", "scoring", "audit")
    token = (stack.secrets / "source_west_token").read_text().strip()
    at = Charted(
        patient="synthetic-2",
        encounter="synthetic-stay-2",
        effective=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    values = {"HR": 118.0, "Resp": 24.0, "Temp": 38.4, "O2Sat": 93.0}
    sent = bundle(observation(at, f"o-{name}", name=name, value=v) for name, v in values.items())
    assert asked(stack.port("gateway"), "/fhir", token, json.dumps(sent).encode())[0] == 202
    host, port = clickhouse
    question = "SELECT count() FROM predictions WHERE disposition = 'scored'"
    store = ClickHouse(f"http://{host}:{port}/composed")
    until(lambda: bool(store.query(question)["count()"][0]), "a score reaches the ledger")
    _, exposition = asked(stack.port("scoring"), "/metrics", stack.token())
    [late] = re.findall(
        rb"^vigil_accepted_to_scored_seconds_count\S+ (\S+)$", exposition, re.MULTILINE
    )
    assert float(late) >= 1


def test_the_server_is_of_the_version_of_the_engine(clickhouse: tuple[str, int]) -> None:
    host, port = clickhouse
    with urllib.request.urlopen(f"http://{host}:{port}/?query=SELECT%20version()") as answer:
        version = answer.read().decode()
    assert version.startswith(ALL["clickhouse"]["image"].partition(":")[2] + ".")


def test_kafka_answers_inside_and_on_loopback(stack: Stack) -> None:
    inside, outside = (
        cluster_id(f"127.0.0.1:{stack.kafka[p]}", PATIENCE_S) for p in (19092, 9092)
    )
    assert inside == outside


def test_prometheus_sees_every_service_and_can_evaluate_every_rule(
    stack: Stack, tmp_path: Path
) -> None:
    program = shutil.which("prometheus")
    if not program:
        pytest.skip(reason="there is no prometheus: apt-get install prometheus")
    port = free_port()
    config = shutil.copytree(REPO / "infra/prometheus", tmp_path / "etc") / "prometheus.yml"
    text = config.read_text().replace("/run/secrets", str(stack.secrets)).replace("10s", "1s")
    for name, service in PROGRAMS.items():
        text = text.replace(f"{name}:{service.port}", f"127.0.0.1:{stack.port(name)}")
    config.write_text(text)
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while trouble := _troubles(port):
                assert time.monotonic() < deadline, trouble
                time.sleep(0.2)
        finally:
            process.terminate()


def _troubles(port: int) -> set[str]:
    """Name the services that are not scraped and the rules that were not evaluated."""
    try:
        (there, scraped), (_, judged) = (asked(port, f"/api/v1/{n}") for n in ("targets", "rules"))
    except urllib.error.URLError as error:
        return {str(error)}
    if there != HTTPStatus.OK:  # it answers 503 while it reads its own log
        return {scraped.decode()}
    targets = json.loads(scraped)["data"]["activeTargets"]
    up = {target["labels"]["job"] for target in targets if target["health"] == "up"}
    groups = json.loads(judged)["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return (set(PROGRAMS) - up) | {r["name"] for r in rules if r["health"] != "ok"}
