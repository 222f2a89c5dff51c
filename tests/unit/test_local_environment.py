"""What the stack remembers and what it tells its processes."""

import socket
from pathlib import Path

import pytest

from services.local.environment import environment, make_keys, ports, remembered_ports
from services.local.home import REPO, Home
from services.local.ports import free_port, is_free
from services.local.roster import SERVICES, STORES, Program
from services.local.supervision import configuration


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(root=tmp_path, cache=tmp_path / "cache")


def _program(name: str, port: int) -> Program:
    return Program(name=name, command=("true",), port=port)


def test_a_home_is_where_the_environment_says_or_here() -> None:
    assert Home.of({"VIGIL_HOME": "/a", "VIGIL_CACHE": "/b"}) == Home(
        root=Path("/a"), cache=Path("/b")
    )
    assert Home.of({}) == Home(root=Path(".vigil").absolute(), cache=REPO / ".vigil" / "cache")


def test_the_usual_port_is_taken_when_it_is_free(home: Home) -> None:
    usual = free_port()
    assert ports(home, [_program("a", usual)]) == {"a": usual}
    assert remembered_ports(home) == {"a": usual}


def test_a_taken_port_is_replaced_and_the_new_one_kept(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert not is_free(taken)
        chosen = ports(home, [_program("a", taken)])["a"]
    assert chosen != taken
    assert ports(home, [_program("a", taken)]) == {"a": chosen}


def test_two_programs_never_get_one_port(home: Home) -> None:
    usual = free_port()
    found = ports(home, [_program("a", usual), _program("b", usual)])
    assert found["a"] == usual != found["b"]


def test_keys_are_made_once_and_readable_by_their_owner_alone(home: Home) -> None:
    make_keys(home)
    before = {path.name: path.read_text() for path in home.keys.iterdir()}
    assert sorted(before) == ["payload.key", "pseudonym.key"]
    assert {len(bytes.fromhex(key)) for key in before.values()} == {32}
    assert len(set(before.values())) == 2
    assert {path.stat().st_mode & 0o777 for path in home.keys.iterdir()} == {0o600}
    make_keys(home)
    assert {path.name: path.read_text() for path in home.keys.iterdir()} == before


def test_what_is_given_is_not_replaced(home: Home) -> None:
    given = {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092",
        "VIGIL_MODEL": "/models/other",
        "VIGIL_GATEWAY_PORT": "8400",
    }
    told = environment(home, {"kafka": 1, "clickhouse": 2, "gateway": 3}, given)
    assert told["KAFKA_BOOTSTRAP_SERVERS"] == "kafka.example:9092"
    assert told["VIGIL_MODEL"] == "/models/other"
    assert told["CLICKHOUSE_URL"] == "http://127.0.0.1:2"
    assert told["VIGIL_GATEWAY_PORT"] == "3", "the port that was free, not the one wished for"
    assert told["VIGIL_PAYLOAD_KEY_FILE"] == str(home.keys / "payload.key")


def test_the_supervisor_restarts_all_ends_but_the_final_ones(home: Home) -> None:
    text = configuration(home, (*STORES, *SERVICES), dict.fromkeys(_names(), 1))
    assert text.count("startsecs=0\nautorestart=unexpected\n") == len(_names())
    assert text.count("exitcodes=0,3,6\n") == len(SERVICES)


def test_a_percent_sign_in_a_path_reaches_the_supervisor_as_itself(tmp_path: Path) -> None:
    home = Home(root=tmp_path / "100%", cache=tmp_path)
    assert "100%%/run" in configuration(home, [_program("a", 1)], {"a": 1})


def test_usual_ports_are_all_different() -> None:
    usual = [program.port for program in (*STORES, *SERVICES)]
    assert len(set(usual)) == len(usual)


def _names() -> list[str]:
    return [program.name for program in (*STORES, *SERVICES)]
