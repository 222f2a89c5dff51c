"""The launcher: back-off, and a lock that tells the living from the dead."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from services.local.home import REPO
from services.local.launch import (
    GIVES_WAY,
    LONGEST_WAIT_S,
    RECENT_S,
    Life,
    end,
    life,
    lives,
    next_life,
    record,
    wait_s,
)

DEADLINE_S = 120.0


def test_the_first_start_waits_for_nothing_and_each_death_doubles_the_wait() -> None:
    begun: Life | None = None
    waits = []
    for now in range(9):
        begun = next_life(begun, pid=1, now=float(now))
        waits.append(round(begun.waits_until - now, 3))
    assert waits == [0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert begun is not None
    assert begun.starts == 9


def test_a_minute_of_life_is_forgiveness() -> None:
    old = Life(pid=1, starts=40, recent=(100.0, 105.0), waits_until=110.0)
    begun = next_life(old, pid=2, now=105.0 + RECENT_S)
    assert begun.waits_until == 105.0 + RECENT_S
    assert begun.starts == 41


def test_a_process_that_dies_for_ever_waits_the_longest_for_ever() -> None:
    begun: Life | None = None
    now = 0.0
    for _ in range(200):
        begun = next_life(begun, pid=1, now=now)
        now = begun.waits_until
    assert begun is not None
    assert begun.waits_until - begun.recent[-1] == LONGEST_WAIT_S == wait_s(10_000)


def _launch(run: Path, *command: str, way: str = "-") -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "services.local.launch", str(run), "it", way, *command]
    return subprocess.Popen(line, cwd=REPO)


def _await_life(run: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while life(run, "it") is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_process_keeps_the_pid_of_its_launcher_and_the_lock_until_it_ends(
    tmp_path: Path,
) -> None:
    with _launch(tmp_path, sys.executable, "-c", "import time; time.sleep(60)") as process:
        _await_life(tmp_path)
        found = life(tmp_path, "it")
        assert found is not None
        assert found.pid == process.pid
        assert lives(tmp_path, "it")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not lives(tmp_path, "it")
    assert not lives(tmp_path, "never-started")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has a class for idle tasks")
@pytest.mark.parametrize(("way", "gives"), [("-", False), (GIVES_WAY, True)])
def test_a_process_that_gives_way_is_an_idle_task_and_so_are_its_threads(
    tmp_path: Path, way: str, *, gives: bool
) -> None:
    told = tmp_path / "told"
    look = (
        "import os, sys, threading, pathlib\n"
        "def tell():\n"
        "    idle = os.sched_getscheduler(0) == os.SCHED_IDLE\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(idle))\n"
        "thread = threading.Thread(target=tell)\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    with _launch(tmp_path, sys.executable, "-c", look, str(told), way=way) as process:
        assert process.wait(DEADLINE_S) == 0
    assert told.read_text() == str(gives)


def test_a_second_process_of_the_name_does_not_start(tmp_path: Path) -> None:
    with _launch(tmp_path, sys.executable, "-c", "import time; time.sleep(60)") as first:
        _await_life(tmp_path)
        second = _launch(tmp_path, sys.executable, "-c", "print('never')")
        assert second.wait(DEADLINE_S) == 75
        found = life(tmp_path, "it")
        assert found is not None
        assert (found.pid, found.starts) == (first.pid, 1)
        end(tmp_path, "it")
        assert first.wait(DEADLINE_S) == -signal.SIGTERM


def test_a_process_deaf_to_sigterm_is_ended_by_force(tmp_path: Path) -> None:
    deaf = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        " pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    )
    ready = tmp_path / "ready"
    with _launch(tmp_path, sys.executable, "-c", deaf, str(ready)) as process:
        deadline = time.monotonic() + DEADLINE_S
        while not ready.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        end(tmp_path, "it", gone_s=0.2)
        assert process.wait(DEADLINE_S) == -signal.SIGKILL


def test_who_looks_while_a_life_is_written_down_sees_a_whole_one(tmp_path: Path) -> None:
    first = Life(pid=1, starts=1, recent=(0.0,) * 100, waits_until=0.0)

    def write() -> None:
        for _ in range(1000):
            record(tmp_path, "it", first)

    record(tmp_path, "it", first)
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    looks = 0
    while writer.is_alive():
        assert life(tmp_path, "it") == first
        looks += 1
    assert looks > 100


def test_a_pid_without_its_lock_is_left_alone(tmp_path: Path) -> None:
    # The process of the file is long gone, and its number may be anybody's: here, ours.
    stale = {"pid": os.getpid(), "starts": 1, "recent": [0.0], "waits_until": 0.0}
    (tmp_path / "it.life").write_text(json.dumps(stale))
    (tmp_path / "it.lock").touch()
    end(tmp_path, "it")
    assert life(tmp_path, "it") == Life(pid=os.getpid(), starts=1, recent=(0.0,), waits_until=0.0)
