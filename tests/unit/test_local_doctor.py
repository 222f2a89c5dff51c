"""Each check of the doctor finds what is wrong and says what to do."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.core.errors import CommandError, Retry
from services.core.faults import Fault
from services.local import doctor, inspection
from services.local.home import Home
from services.local.meters import read
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
    assert doctor.broker({"bootstrap.servers": f"127.0.0.1:{port}"}).state == "fail"
    assert doctor.clickhouse(f"http://127.0.0.1:{port}").state == "fail"


def test_every_check_that_is_not_passed_says_what_to_do(tmp_path: Path) -> None:
    home = Home(root=tmp_path, cache=tmp_path / "empty")
    found = list(doctor.examine(Stack(home=home, given={"VIGIL_MODEL": str(tmp_path / "none")})))
    names = {check.name for check in found}
    assert {"python", "java", "jars", "disk", "memory", "model", "port of kafka"} <= names
    assert [check.name for check in found if check.state != "pass" and not check.remedy] == []
    assert "fail" in {check.state for check in found}


def applied(folder: Path, *names: str) -> inspection.Ask:
    rows = [
        {"name": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        for name in names
    ]
    return lambda _: rows


def test_tables_pass_when_every_file_was_applied_as_it_is_and_fail_otherwise(
    tmp_path: Path,
) -> None:
    first, second = (tmp_path / name for name in ("0001_a.sql", "0002_b.sql"))
    first.write_text("CREATE TABLE a")
    second.write_text("CREATE TABLE b")
    (tmp_path / "roles.sql").write_text("CREATE ROLE c")
    both = applied(tmp_path, first.name, second.name)
    assert inspection.tables(both, tmp_path).state == "pass"
    missing = inspection.tables(applied(tmp_path, first.name), tmp_path)
    assert (missing.state, missing.found) == ("fail", "0002_b.sql not applied")
    assert missing.remedy == "`vigil ledger migrate`"
    second.write_text("CREATE TABLE other")
    assert inspection.tables(both, tmp_path).state == "fail"
    second.unlink()  # the store is newer than this program
    assert inspection.tables(both, tmp_path).state == "fail"


@pytest.mark.parametrize(
    ("store_s", "state", "word"),
    [
        (1000.5, "pass", "agrees"),
        (1002.9, "pass", "agrees"),
        (1011.0, "warn", "ahead"),
        (990.0, "warn", "behind"),
        (1200.0, "fail", "ahead"),
        (0.0, "fail", "behind"),
    ],
)
def test_a_clock_that_differs_by_more_than_the_asking_took_is_named(
    store_s: float, state: str, word: str
) -> None:
    ours = iter((1000.0, 1001.0))  # before and after the question
    found = inspection.clock(lambda _: [{"at": store_s * 1000}], lambda: next(ours))
    assert found.state == state
    assert word in found.found
    assert bool(found.remedy) == (state != "pass")


def test_no_baseline_in_use_is_a_warning_that_drift_stays_insufficient() -> None:
    none = inspection.baseline(lambda _: [])
    assert none.state == "warn"
    assert "insufficient" in none.found
    row = {"after": "ab" * 32, "since": "2026-02-01 00:00:00.000000"}
    used = inspection.baseline(lambda _: [row])
    assert (used.state, used.found) == ("pass", "abababababab from 2026-02-01 00:00:00 on")


@pytest.mark.parametrize(
    ("findings", "days", "state"),
    [(0, None, "warn"), (0, 0, "pass"), (0, 7, "pass"), (0, 8, "warn"), (2, 1, "fail")],
)
def test_a_ledger_that_nobody_proved_lately_is_a_warning_and_a_finding_a_failure(
    findings: int, days: int | None, state: str
) -> None:
    found = inspection.proof(lambda _: [{"found": findings, "days": days}])
    assert (found.state, bool(found.remedy)) == (state, state != "pass")


def test_a_store_that_refuses_fails_each_check_in_its_own_words() -> None:
    def refuses(_: str) -> list[dict[str, Any]]:
        raise CommandError("no table schema_version", "migrate", Fault.STORE_SILENT)

    found = list(inspection.store(refuses))
    assert [check.name for check in found] == ["tables", "clock", "baseline", "proof"]
    assert {(c.state, c.found, c.remedy) for c in found} == {
        ("fail", "no table schema_version", "migrate")
    }


@pytest.mark.parametrize(
    ("rules", "servers", "state"),
    [
        (7, "kafka.example:9092", "pass"),
        (0, "127.0.0.1:9092,[::1]:9092", "pass"),
        (0, "localhost:9092", "pass"),
        (0, "127.0.0.1:9092,kafka.example:9092", "warn"),
        (0, "10.0.0.1:9092", "warn"),
    ],
)
def test_a_broker_without_rules_is_a_warning_unless_this_machine_alone_reaches_it(
    monkeypatch: pytest.MonkeyPatch, rules: int, servers: str, state: str
) -> None:
    monkeypatch.setattr(inspection, "access_rules", lambda _: rules)
    found = inspection.access({"bootstrap.servers": servers})
    assert (found.state, bool(found.remedy)) == (state, state == "warn")


def test_rules_that_are_not_shown_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: object) -> int:
        raise Retry("Kafka: describe ACLs failed (CLUSTER_AUTHORIZATION_FAILED)")

    monkeypatch.setattr(inspection, "access_rules", refuses)
    found = inspection.access({"bootstrap.servers": "127.0.0.1:9092"})
    assert found.state == "warn"
    assert "CLUSTER_AUTHORIZATION_FAILED" in found.found


@pytest.mark.parametrize(
    ("code", "out", "err", "state", "words"),
    [
        (0, "", "", "pass", "as the boards say"),
        (1, json.dumps({"files": [{"file": "a", "action": "change"}]}), "", "warn", "1 files"),
        (3, "", "vigil: the package x is not installed\n", "warn", "the package x is not"),
    ],
)
def test_boards_that_differ_or_cannot_be_made_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str, state: str, words: str
) -> None:
    done = subprocess.CompletedProcess[str]((), code, out, err)
    monkeypatch.setattr(inspection, "vigil", lambda *_: done)
    found = inspection.boards({})
    assert found.state == state
    assert found.found.startswith(words)


def test_a_baseline_that_monitoring_refused_is_a_warning() -> None:
    counted = 'vigil_windows_total{service="monitoring"} 3.0\n'
    assert "3 windows" in inspection.registers(read(counted)).found
    refused = 'vigil_baselines_total{service="monitoring",outcome="refused"} 1.0\n'
    taken = refused.replace("refused", "taken")
    assert inspection.registers(read(counted + taken)).state == "pass"
    assert inspection.registers(read(counted + taken + refused)).state == "warn"


def test_a_password_file_that_cannot_be_read_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", str(tmp_path / "none"))
    given = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "VIGIL_MODEL": str(tmp_path)}
    home = Home(root=tmp_path, cache=tmp_path / "empty")
    found = {check.name: check for check in doctor.examine(Stack(home=home, given=given))}
    assert found["kafka"].state == "fail"
    assert "topics" not in found
