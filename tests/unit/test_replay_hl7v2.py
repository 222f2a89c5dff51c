"""Files of HL7 v2 are replayed over MLLP: every message once, and answered."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from doors import BUILD
from typer.testing import CliRunner

from services.cli.main import app
from services.core.errors import ExitCode, Retry
from services.gateway.mllp import Mllp
from services.gateway.reception.desk import Desk
from services.gateway.reception.sources import Sources
from services.runtime.ports import Output
from services.runtime.telemetry.metrics import Metrics
from services.simulator.frames import is_hl7, messages

HEAD = "MSH|^~\\&|LAB|WEST|VIGIL|HOSP|20260101090000+0000||{kind}|{name}|P|2.5.1"
PID = "PID|1||made-up-1^^^WEST^MR"
OBX = "OBX|1|NM|8867-4^Heart rate^LN||80|/min^^UCUM|||||F|||20260101085500"


def message(name: str, kind: str = "ORU^R01", end: str = "\r") -> str:
    return end.join((HEAD.format(name=name, kind=kind), PID, OBX))


class Door:
    """A door for HL7 v2 in a thread of its own; the first write fails."""

    def __init__(self) -> None:
        self.log: list[Output] = []
        self.failures = 1
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def _deliver(self, record: Output) -> None:
        if self.failures:
            self.failures -= 1
            raise Retry("Kafka: away")
        self.log.append(record)

    def start(self) -> None:
        self._thread.start()
        desk = Desk(Sources(None), b"k" * 32, clock=lambda: 1, randomness=bytes)
        self._mllp = Mllp(desk, self._deliver, Metrics(BUILD))
        asyncio.run_coroutine_threadsafe(self._mllp.open(self.socket, None), self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._mllp.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def door() -> Iterator[Door]:
    opened = Door()
    opened.start()
    yield opened
    opened.stop()


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_a_file_is_parted_at_its_headers_however_its_lines_end(tmp_path: Path, end: str) -> None:
    framed = f"\x0b{message('b')}\x1c\r"
    (tmp_path / "a.hl7").write_bytes(f"{message('a', end=end)}{end}{end}{framed}".encode())
    (tmp_path / "b.hl7").write_bytes(message("c", end=end).encode())
    assert is_hl7(tmp_path)
    assert list(messages(tmp_path)) == [message(name).encode() for name in "abc"]


def test_a_folder_is_replayed_and_what_could_not_be_stored_is_sent_again(
    tmp_path: Path, door: Door
) -> None:
    told = "\r".join((message("a"), message("b", kind="ADT^A40"), message("c")))
    (tmp_path / "day.hl7").write_bytes(told.encode())
    done = CliRunner().invoke(
        app, ["replay", str(tmp_path), "--mllp", f"127.0.0.1:{door.port}", "--json"]
    )
    report = json.loads(done.stdout)
    assert done.exit_code == ExitCode.REFUSED
    assert report.pop("elapsed_s") > 0
    assert report == {
        "schema": "vigil.replay/1",
        "kind": "hl7v2",
        "sent": 3,
        "accepted": 2,
        "refused": {"AR": 1},
        "repeated": 1,
    }
    assert len(door.log) == 2


def test_a_door_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.hl7").write_bytes(message("a").encode())
    for address, code in (("127.0.0.1:1", ExitCode.UNREACHABLE), ("somewhere", ExitCode.USAGE)):
        done = CliRunner().invoke(app, ["replay", str(tmp_path), "--mllp", address])
        assert done.exit_code == code
