"""`vigil up`, `status` and `down`, with the real stores and a service that only listens."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import clickhouse_connect
import pytest

from services.core.errors import CommandError, ExitCode
from services.local.conditions import pings
from services.local.home import REPO, Home
from services.local.kafka import answers
from services.local.launch import lives
from services.local.ports import free_port, is_free
from services.local.roster import Program
from services.local.stack import Stack
from services.local.status import Row, log_of, rows
from services.runtime.kafka.admin import create_topic, topics

pytestmark = pytest.mark.wire
IDLE = str(Path(__file__).parent / "idle_service.py")
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
DEADLINE_S = 120.0


def _idle(name: str, *arguments: str, port: int | None = None) -> Program:
    command = (sys.executable, IDLE, *arguments)
    return Program(name=name, command=command, port=port or free_port())


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has room for 107 bytes."""
    with TemporaryDirectory(prefix="vigil-") as folder:
        yield Path(folder)


@pytest.fixture
def stack(root: Path, jar_cache: Path) -> Iterator[Stack]:
    """A stack with both stores and one service, on ports that are free now."""
    home = Home(root=root, cache=jar_cache)
    usual = {name: free_port() for name in ("kafka", "clickhouse")}
    (home.root / "ports.json").write_text(json.dumps(usual))
    given = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA_", "CLICKHOUSE_"))}
    yield (stack := Stack(home=home, given=given, services=(_idle("idle"),), preparations=()))
    stack.down()


@pytest.fixture
def light(stack: Stack) -> Stack:
    """The same without stores: both are said to run elsewhere."""
    elsewhere = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "CLICKHOUSE_URL": NOWHERE}
    return replace(stack, given={**stack.given, **elsewhere})


def _told(stack: Stack) -> Mapping[str, str]:
    found: dict[str, str] = json.loads((stack.home.root / "told.json").read_text())
    return found


def _row(stack: Stack, name: str) -> Row:
    return {row.name: row for row in rows(stack)}[name]


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.05)


def _client(told: Mapping[str, str]) -> clickhouse_connect.driver.client.Client:
    host, _, port = told["CLICKHOUSE_URL"].removeprefix("http://").partition(":")
    return clickhouse_connect.get_client(host=host, port=int(port))


def test_data_survive_down_and_nothing_else_does(stack: Stack) -> None:
    assert stack.up()
    assert not stack.up()
    told = _told(stack)
    options = {"bootstrap.servers": told["KAFKA_BOOTSTRAP_SERVERS"]}
    create_topic(options, "kept", partitions=2, config={})
    with _client(told) as client:
        client.command("CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n")
        client.insert("kept", [[1], [2]])
    before = rows(stack)
    assert [(row.name, row.state) for row in before] == [
        ("kafka", "RUNNING"),
        ("clickhouse", "RUNNING"),
        ("idle", "RUNNING"),
    ]

    assert stack.down()
    assert not stack.down()
    assert [row.port for row in before if not is_free(row.port)] == []
    assert [row.pid for row in before if _is_alive(row.pid)] == []
    assert not stack.home.run.exists()
    assert rows(stack) == []

    assert stack.up()
    assert topics(options)["kept"].partitions == 2
    with _client(told) as client:
        assert client.command("SELECT count() FROM kept") == 2
    assert {row.name: row.port for row in rows(stack)} == {row.name: row.port for row in before}


def test_killed_stores_come_back_unaided_with_what_they_held(stack: Stack) -> None:
    stack.up()
    told = _told(stack)
    options = {"bootstrap.servers": told["KAFKA_BOOTSTRAP_SERVERS"]}
    create_topic(options, "kept", partitions=2, config={})
    with _client(told) as client:
        client.command("CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n")
    for name in ("kafka", "clickhouse"):
        os.kill(_row(stack, name).pid, signal.SIGKILL)
    _await(lambda: all(_row(stack, name).restarts == 1 for name in ("kafka", "clickhouse")))
    _await(lambda: answers(told["KAFKA_BOOTSTRAP_SERVERS"]) and pings(told["CLICKHOUSE_URL"]))
    assert topics(options)["kept"].partitions == 2
    with _client(told) as client:
        assert client.command("EXISTS TABLE kept") == 1


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_tcp_port_but_those_of_the_programs_is_opened(light: Stack) -> None:
    light.up()
    text = (light.home.run / "supervisor.conf").read_text()
    assert "inet_http_server" not in text
    assert (light.home.run / "supervisor.sock").stat().st_mode & 0o777 == 0o700


def test_a_service_is_told_where_everything_is(light: Stack) -> None:
    light.up()
    told = _told(light)
    assert told["VIGIL_METRICS_PORT"] == str(_row(light, "idle").port)
    assert told["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:9"
    assert told["VIGIL_SCHEMAS"] == str(REPO / "schemas")
    for name in ("VIGIL_PSEUDONYM_KEY_FILE", "VIGIL_PAYLOAD_KEY_FILE"):
        assert Path(told[name]).stat().st_mode & 0o777 == 0o600


def test_a_store_that_runs_elsewhere_is_not_started(light: Stack) -> None:
    light.up()
    assert [row.name for row in rows(light)] == ["idle"]


def test_a_killed_service_comes_back_and_is_counted(light: Stack) -> None:
    light.up()
    first = _row(light, "idle")
    os.kill(first.pid, signal.SIGKILL)
    _await(lambda: _row(light, "idle").restarts == 1)
    assert _row(light, "idle").pid != first.pid
    _await(lambda: not is_free(first.port))


@pytest.mark.parametrize("in_our_session", [False, True])
def test_a_stack_runs_in_the_session_that_was_asked_for(
    light: Stack, *, in_our_session: bool
) -> None:
    asked = replace(light, in_our_session=in_our_session)
    asked.up()
    pid = _row(asked, "idle").pid
    assert (os.getsid(pid) == os.getsid(0)) is in_our_session
    assert asked.down()
    assert not lives(asked.home.run, "idle")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_service_that_dies_again_and_again_waits_and_says_so(light: Stack) -> None:
    crashing = replace(light, services=(*light.services, _idle("crash", "70")))
    _fails(crashing, r"crash is not ready .* an idle service begins")
    _await(lambda: _row(light, "crash").restarts >= 2)
    _await(lambda: _row(light, "crash").state == "BACKOFF")
    assert _row(light, "idle").state == "RUNNING"


@pytest.mark.parametrize("code", [ExitCode.CONFIGURATION, ExitCode.STOP])
def test_a_service_that_must_not_go_on_stays_down_with_its_code(
    light: Stack, code: ExitCode
) -> None:
    stopping = replace(light, services=(_idle("stops", str(int(code))),))
    with pytest.raises(CommandError) as told:
        stopping.up()
    assert told.value.exit_code == code
    row = _row(light, "stops")
    assert (row.state, row.exit_code, row.restarts, row.well) == ("EXITED", code, 0, False)


def test_a_service_that_runs_and_does_not_work_is_not_well(light: Stack) -> None:
    light.up()
    assert _row(light, "idle").well
    (light.home.root / "not-ready").touch()
    row = _row(light, "idle")
    assert (row.state, row.note, row.well) == ("RUNNING", "partition 2 does not move", False)
    light.down()
    _fails(light, r"idle is not ready .partition 2 does not move.")


def _fails(stack: Stack, told: str) -> None:
    """Let `up` fail with these words; on a busy machine a service comes later to say its own."""
    heard = ""
    for wait_s in (1, 4, 16, 64):
        with pytest.raises(CommandError) as failed:
            replace(stack, service_wait_s=wait_s).up()
        if re.search(told, heard := failed.value.what):
            return
        stack.down()
    pytest.fail(heard)


def test_a_taken_port_is_replaced_and_the_choice_remembered(light: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        moved = replace(light, services=(_idle("idle", port=taken),))
        moved.up()
        chosen = _row(moved, "idle").port
    assert chosen != taken
    moved.down()
    moved.up()
    assert _row(moved, "idle").port == chosen


def test_a_port_that_was_stolen_from_a_dead_process_is_named(light: Stack) -> None:
    light.up()
    row = _row(light, "idle")
    _signal_until(lambda: is_free(row.port), row.pid)
    with socket.create_server(("127.0.0.1", row.port)):
        _await(lambda: _row(light, "idle").state == "BACKOFF")
        _await(lambda: "is taken by another program" in _row(light, "idle").note)


def _signal_until(condition: Callable[[], bool], pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _await(condition)


def test_what_outlives_the_supervisor_is_seen_and_ended(light: Stack) -> None:
    light.up()
    pid = _row(light, "idle").pid
    os.kill(int((light.home.run / "supervisor.pid").read_text()), signal.SIGKILL)
    _await(lambda: _row(light, "idle").state == "ORPHAN")
    assert _row(light, "idle").pid == pid
    assert lives(light.home.run, "idle")
    light.down()
    assert not _is_alive(pid)
    assert light.up()


def test_a_failed_preparation_is_told_and_leaves_nothing(light: Stack) -> None:
    with pytest.raises(CommandError, match="`vigil no-such-thing` failed") as told:
        replace(light, preparations=(("no-such-thing",),)).up()
    assert told.value.exit_code == ExitCode.USAGE
    assert not light.home.run.exists()


def test_without_network_and_jars_up_says_one_sentence_and_leaves_nothing(stack: Stack) -> None:
    offline = replace(
        stack,
        home=Home(root=stack.home.root, cache=stack.home.root / "empty"),
        given={**stack.given, "VIGIL_MAVEN_URL": NOWHERE},
    )
    with pytest.raises(CommandError, match="is not in the cache and cannot be fetched") as told:
        offline.up()
    assert told.value.exit_code == ExitCode.UNREACHABLE
    assert not stack.home.run.exists()


def test_a_full_disk_stops_up_before_anything_starts(light: Stack) -> None:
    with pytest.raises(CommandError, match="MiB left") as told:
        replace(light, least_free_bytes=1 << 60).up()
    assert told.value.exit_code == ExitCode.CONFIGURATION
    assert not light.home.run.exists()


def test_a_home_too_deep_for_a_socket_is_refused(light: Stack) -> None:
    deep = light.home.root / ("d" * 100)
    with pytest.raises(CommandError, match="too long"):
        replace(light, home=Home(root=deep, cache=light.home.cache)).up()


def test_logs_are_found_by_name_and_other_names_are_answered_with_the_list(light: Stack) -> None:
    light.up()
    assert "an idle service begins" in log_of(light, "idle").read_text()
    with pytest.raises(CommandError) as told:
        log_of(light, "nobody")
    assert "idle" in told.value.remedy


def test_ctrl_c_during_up_ends_with_130_and_leaves_nothing(stack: Stack) -> None:
    env = {
        **stack.given,
        "VIGIL_HOME": str(stack.home.root),
        "VIGIL_CACHE": str(stack.home.cache),
    }
    command = [sys.executable, "-m", "services.cli.main", "up"]
    # A shell that runs us in the background hands SIGINT down ignored; Python then stays deaf.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, cwd=REPO) as up:
        assert up.stderr
        assert next(line for line in up.stderr if "starting ClickHouse" in line)
        _await(lambda: lives(stack.home.run, "kafka"))
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=DEADLINE_S)
    assert up.returncode == ExitCode.INTERRUPTED
    assert not stack.home.run.exists()
    known = json.loads((stack.home.root / "ports.json").read_text())
    assert all(is_free(port) for port in known.values())
