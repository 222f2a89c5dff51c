"""docker-compose.yml, held against the code in both directions."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from composed import ALL, DOCKERFILE, IN_IMAGE, OURS, PROGRAMS, kafka_properties
from pydantic_settings import BaseSettings

from services.local.environment import environment
from services.local.home import REPO, Home
from services.local.jars import WANTED
from services.local.roster import STORES
from services.local.stack import PREPARATIONS
from services.runtime.settings import KafkaSettings

COMMANDS = {"prepare", "verify", "tools"}
"""What runs `vigil`, and no service of the roster."""


def settings_of(name: str) -> list[type[BaseSettings]]:
    """What a service reads; what runs commands reads what they do."""
    package = "audit" if name in COMMANDS else name
    module = importlib.import_module(f"services.{package}.settings")
    found = inspect.getmembers(module, inspect.isclass)
    own = [c for _, c in found if issubclass(c, BaseSettings) and c.__module__ == module.__name__]
    return [*own, KafkaSettings]


def variables(kind: type[BaseSettings]) -> dict[str, Any]:
    prefix = str(kind.model_config["env_prefix"])
    return {f"{prefix}{name}".upper(): field for name, field in kind.model_fields.items()}


def known(name: str) -> dict[str, Any]:
    return {key: field for kind in settings_of(name) for key, field in variables(kind).items()}


def module_of(command: list[str]) -> str:
    assert command[:2] == ["python", "-m"]
    return command[2]


def test_every_service_of_the_roster_is_in_the_file_and_the_other_way_round() -> None:
    assert set(OURS) - COMMANDS == set(PROGRAMS)
    assert {store.name for store in STORES} <= set(ALL)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_service_runs_the_module_that_the_local_stack_runs(name: str) -> None:
    module = module_of(OURS[name]["command"])
    assert PROGRAMS[name].command[-1] == module
    assert importlib.util.find_spec(f"{module}.__main__")


def test_what_comes_last_on_a_busy_machine_is_what_does_in_the_local_stack() -> None:
    last = {program.name for program in (*PROGRAMS.values(), *STORES) if program.gives_way}
    assert {name for name, service in ALL.items() if "cpu_shares" in service} == last
    assert {ALL[name]["cpu_shares"] for name in last} == {32}, "of 1,024 that others have"


def test_preparations_are_those_of_the_local_stack() -> None:
    wanted = " && ".join(" ".join(["vigil", *words]) for words in PREPARATIONS)
    assert OURS["prepare"]["command"] == ["sh", "-c", wanted]
    for name in PROGRAMS:
        assert "prepare" in OURS[name]["depends_on"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_exists_in_the_settings_of_its_service(name: str) -> None:
    assert set(OURS[name]["environment"]) <= set(known(name))


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_every_setting_without_a_default_and_every_file_is_given(name: str) -> None:
    given = {**IN_IMAGE, **OURS[name]["environment"]}
    needed = {
        key
        for key, field in known(name).items()
        if field.is_required() or isinstance(field.default, Path)
    }
    assert needed <= set(given)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_service_is_told_what_the_local_stack_tells_it(name: str) -> None:
    """Addresses and files differ, names do not: what is missing here is a default there."""
    home = Home(root=Path("/home"), cache=Path("/cache"))
    told = set(environment(home, {}, {})) & set(known(name)) - {"VIGIL_GATEWAY_PORT"}
    assert told <= set(OURS[name]["environment"]) | set(IN_IMAGE)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_service_listens_at_the_port_of_the_local_stack(name: str) -> None:
    program, port = PROGRAMS[name], str(PROGRAMS[name].port)
    assert OURS[name]["environment"][program.told_by] == port
    assert OURS[name]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_stores_are_published_at_the_ports_of_the_local_stack() -> None:
    for store in STORES:
        assert ALL[store.name]["ports"] == [f"127.0.0.1:{store.port}:{store.port}"]


def test_nothing_is_published_but_on_loopback_and_nothing_twice() -> None:
    ports = [port for it in ALL.values() for port in it.get("ports", [])]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_every_image_has_a_tag_that_is_a_version() -> None:
    images = [it["image"] for it in ALL.values()] + re.findall(
        r"^FROM (\S+)", DOCKERFILE, re.MULTILINE
    )
    for image in images:
        assert re.search(r":v?\d+(\.\d+)+", image), image


def test_kafka_is_the_version_and_has_the_settings_of_the_local_stack() -> None:
    [jar] = [group[0] for group in WANTED if "org.apache.kafka:" in group[0]]
    assert ALL["kafka"]["image"] == f"apache/kafka:{jar.rpartition(':')[2]}"
    lines = (REPO / "infra/kafka/server.properties").read_text().splitlines()
    local = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
    told = kafka_properties()
    addresses = {"controller.quorum.voters", "log.dirs"} | {
        name for name in local if "listener" in name
    }
    for name, value in local.items():
        assert name in addresses or value.startswith("@") or told[name] == value
    assert addresses <= set(told)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_container_restarts_and_is_bounded(name: str) -> None:
    it = ALL[name]
    restarts = {"users": "on-failure:5", "prepare": "on-failure:5", "tools": "no"}
    assert it["restart"] == restarts.get(name, "unless-stopped")
    assert {"cpus", "memory"} <= set(it["deploy"]["resources"]["limits"])
    assert it["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_have_no_rights_and_write_nowhere(name: str) -> None:
    it = OURS[name]
    assert it["read_only"] is True
    assert it["cap_drop"] == ["ALL"]
    assert it["security_opt"] == ["no-new-privileges:true"]
    assert not it["user"].startswith("0")
    outbox = ["outbox:/var/lib/vigil-outbox"] if name == "gateway" else []
    assert it.get("volumes", []) == outbox
    assert [mount.partition(":")[0] for mount in it["tmpfs"]] == ["/tmp", IN_IMAGE["VIGIL_HOME"]]  # noqa: S108 - of the container


def test_prometheus_asks_every_service_where_it_listens_with_the_token() -> None:
    text = (REPO / "infra/prometheus/prometheus.yml").read_text()
    jobs = {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}
    for name, program in PROGRAMS.items():
        assert jobs[name]["static_configs"] == [{"targets": [f"{name}:{program.port}"]}]
        token = jobs[name]["authorization"]["credentials_file"]
        assert token == OURS[name]["environment"]["VIGIL_METRICS_TOKEN_FILE"]
    assert set(jobs) - set(PROGRAMS) == {"prometheus", "alertmanager"}


def test_a_prometheus_beside_the_local_stack_asks_the_usual_ports() -> None:
    text = (REPO / "infra/prometheus/local.yml").read_text()
    jobs = {j["job_name"]: j["static_configs"] for j in yaml.safe_load(text)["scrape_configs"]}
    assert jobs == {
        name: [{"targets": [f"127.0.0.1:{program.port}"]}] for name, program in PROGRAMS.items()
    }


def test_the_ledger_is_proved_again_and_again_by_a_user_who_can_only_read_and_note() -> None:
    words = OURS["verify"]["command"]
    assert words[:2] == ["sh", "-c"]
    assert re.fullmatch(r"while true; do vigil ledger verify; sleep \d+; done", words[2])
    users = (REPO / "infra/clickhouse/users.sh").read_text()
    roles = dict(re.findall(r"^(\w+) (vigil_\w+)$", users, re.MULTILINE))
    assert roles[OURS["verify"]["environment"]["CLICKHOUSE_USER"]] == "vigil_verifier"
    assert roles[OURS["tools"]["environment"]["CLICKHOUSE_USER"]] == "vigil_auditor"
    assert OURS["tools"]["profiles"] == ["tools"], "`up` does not start it"


def test_grafana_finds_its_sources_and_boards() -> None:
    base = REPO / "infra/grafana/provisioning"
    sources = yaml.safe_load((base / "datasources/vigil.yml").read_text())["datasources"]
    assert {s["uid"] for s in sources} == {
        "vigil-prometheus",
        "vigil-clickhouse",
        "vigil-alertmanager",
    }
    for source in sources:
        host = source.get("url", "").partition("://")[2].partition(":")[0]
        assert (host or source["jsonData"]["host"]) in ALL
    [boards] = yaml.safe_load((base / "dashboards/vigil.yml").read_text())["providers"]
    assert boards["folderUid"] == "vigil"
    assert f"./dashboards:{boards['options']['path']}:ro" in ALL["grafana"]["volumes"]
