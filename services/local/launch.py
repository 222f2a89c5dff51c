"""Starts a process in the supervisor's place: waits after recent deaths, then becomes it.

The supervisor restarts at once and for ever; this adds the back-off, and a lock which the process
holds as long as it lives, so that the pid beside it can be trusted even after the supervisor died.
"""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
RECENT_S: Final = 60.0
HELD: Final = 75  # exit code: another process of this name still lives
HELD_S: Final = 5.0
GONE_S: Final = 30.0
GIVES_WAY: Final = "gives-way"
NICEST: Final = 19


@dataclass(frozen=True, kw_only=True)
class Life:
    """What is known of the process that has this name.

    Args:
        pid: of the process.
        starts: how often it was started since `vigil up`.
        recent: times of the starts of the last minute, of the machine's monotonic clock in s.
        waits_until: time of that clock before which it does not begin.
    """

    pid: int
    starts: int
    recent: tuple[float, ...]
    waits_until: float


def wait_s(recent_starts: int) -> float:
    """How long to wait: nothing the first time, then 0.2 s, doubling to 5 s.

    >>> [wait_s(n) for n in (0, 1, 2, 5, 6, 60)]
    [0.0, 0.2, 0.4, 3.2, 5.0, 5.0]
    """
    doublings = min(recent_starts - 1, 10)
    return min(FIRST_WAIT_S * 2**doublings, LONGEST_WAIT_S) if recent_starts else 0.0


def next_life(before: Life | None, *, pid: int, now: float) -> Life:
    """The life that begins now, given the one before."""
    recent = tuple(at for at in before.recent if now - at < RECENT_S) if before else ()
    return Life(
        pid=pid,
        starts=before.starts + 1 if before else 1,
        recent=(*recent, now),
        waits_until=now + wait_s(len(recent)),
    )


def life(run: Path, name: str) -> Life | None:
    """The latest life of a process, whether it still lasts or not."""
    path = run / f"{name}.life"
    text = path.read_text() if path.exists() else ""
    if not text:
        return None
    fields = json.loads(text)
    return Life(**{**fields, "recent": tuple(fields["recent"])})


def record(run: Path, name: str, begun: Life) -> None:
    """Writes down a life in one step: who looks meanwhile, or after a kill, sees a whole one."""
    draft = run / f"{name}.life.new"
    draft.write_text(json.dumps(asdict(begun)))
    draft.replace(run / f"{name}.life")


def lives(run: Path, name: str) -> bool:
    """Whether the process of that name is alive; its lock ends with it, however it ends."""
    path = run / f"{name}.lock"
    if not path.exists():
        return False
    with path.open("r+") as lock:
        return not _taken(lock.fileno())


def end(run: Path, name: str, *, gone_s: float = GONE_S) -> None:
    """Ends a process that outlived its supervisor; its lock proves that the pid is its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        found = life(run, name)
        if found is None or not lives(run, name):
            return
        with suppress(ProcessLookupError):
            os.kill(found.pid, number)
        deadline = time.monotonic() + gone_s
        while lives(run, name) and time.monotonic() < deadline:
            time.sleep(0.05)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken_in_time(handle: int, deadline: float) -> bool:
    # One who only looks whether the process lives holds the lock for a moment, too.
    while not _taken(handle):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def give_way() -> None:
    """Take the processor when no process of this session that does not give way wants it.

    Linux has a class of its own for that, whose tasks are interrupted as soon as another wakes; a
    nice one is left to end its turn of some milliseconds first.
    """
    os.nice(NICEST)
    if sys.platform == "linux":
        with suppress(PermissionError):  # a container may forbid it; niceness stays
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main(arguments: Sequence[str]) -> None:
    """Becomes `command`; told: run folder, name, GIVES_WAY or '-', then the command line."""
    run, name, command = Path(arguments[0]), arguments[1], list(arguments[3:])
    now = time.monotonic()
    lock = os.open(run / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    if not _taken_in_time(lock, now + HELD_S):
        sys.exit(HELD)
    begun = next_life(life(run, name), pid=os.getpid(), now=now)
    record(run, name, begun)
    os.set_inheritable(lock, True)  # noqa: FBT003 - the standard library wants it by position
    time.sleep(begun.waits_until - now)
    if arguments[2] == GIVES_WAY:
        give_way()
    os.execv(command[0], command)  # noqa: S606 - the command line of our own configuration


if __name__ == "__main__":
    main(sys.argv[1:])
