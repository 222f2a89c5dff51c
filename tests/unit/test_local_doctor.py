"""Each check of the doctor finds what is wrong and says what to do."""

from pathlib import Path

import pytest

from services.local import doctor
from services.local.home import Home
from services.local.ports import free_port
from services.local.stack import Stack


def test_python_is_old_or_not() -> None:
    assert doctor.python((3, 11)).state == "pass"
    assert doctor.python((3, 10)).state == "fail"


def test_a_java_that_does_not_start_fails(tmp_path: Path) -> None:
    assert doctor.java().state == "pass"
    assert doctor.java(tmp_path / "java").state == "fail"


def test_missing_jars_are_a_warning_while_there_may_be_a_network(tmp_path: Path) -> None:
    home = Home(root=tmp_path, cache=tmp_path / "empty")
    alone = Stack(home=home, given={})
    assert doctor.kafka_jars(alone).state == "warn"
    with_cluster = Stack(home=home, given={"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"})
    assert doctor.kafka_jars(with_cluster).state == "pass"


@pytest.mark.parametrize(("megabytes", "state"), [(100, "warn"), (8000, "pass")])
def test_little_memory_is_a_warning(tmp_path: Path, megabytes: int, state: str) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable: {megabytes << 10} kB\n")
    assert doctor.memory(meminfo).state == state


def test_a_key_that_others_can_read_fails(tmp_path: Path) -> None:
    path = tmp_path / "payload.key"
    assert doctor.key_file("payload key", path).state == "warn"
    path.write_text("key")
    path.chmod(0o600)
    assert doctor.key_file("payload key", path).state == "pass"
    path.chmod(0o640)
    found = doctor.key_file("payload key", path)
    assert (found.state, found.remedy) == ("fail", f"chmod 600 {path}")


def test_a_bundle_that_is_not_there_fails(tmp_path: Path) -> None:
    assert doctor.model(tmp_path / "1.0.0").state == "fail"


def test_stores_that_do_not_answer_fail() -> None:
    port = free_port()
    assert doctor.broker(f"127.0.0.1:{port}").state == "fail"
    assert doctor.clickhouse(f"http://127.0.0.1:{port}").state == "fail"


def test_every_check_that_is_not_passed_says_what_to_do(tmp_path: Path) -> None:
    home = Home(root=tmp_path, cache=tmp_path / "empty")
    found = list(doctor.examine(Stack(home=home, given={"VIGIL_MODEL": str(tmp_path / "none")})))
    names = {check.name for check in found}
    assert {"python", "java", "jars", "disk", "memory", "model", "port of kafka"} <= names
    assert [check.name for check in found if check.state != "pass" and not check.remedy] == []
    assert "fail" in {check.state for check in found}
