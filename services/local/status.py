"""What `vigil status` shows: every process of the stack, and what is the matter with it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.core.errors import CommandError, ExitCode
from services.local.conditions import why_not_ready
from services.local.environment import remembered_ports
from services.local.kafka import last_line
from services.local.launch import life, lives
from services.local.ports import is_free
from services.local.roster import STORES
from services.local.stack import Stack
from services.local.supervision import Process, Supervisor

STORE_NAMES: Final = frozenset(store.name for store in STORES)
RED: Final = frozenset({"EXITED", "FATAL", "ORPHAN"})


@dataclass(frozen=True, kw_only=True)
class Row:
    """One process.

    Args:
        name: of the process.
        state: RUNNING, BACKOFF (it died and waits for its next life), EXITED (it stays down),
            STOPPED, ORPHAN (it lives, its supervisor does not).
        pid: of the process, or 0.
        port: on 127.0.0.1, or 0.
        uptime_s: since its last start.
        restarts: since `vigil up`.
        exit_code: of its last end, or 0.
        note: what is the matter; empty when nothing is.
    """

    name: str
    state: str
    pid: int = 0
    port: int = 0
    uptime_s: int = 0
    restarts: int = 0
    exit_code: int = 0
    note: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing needs to be done."""
        return self.state == "RUNNING" and not self.note


def rows(stack: Stack) -> list[Row]:
    """Every process, in the order of its start; empty when the stack is down."""
    if not stack.home.run.exists():
        return []
    supervisor = Supervisor(stack.home)
    if not supervisor.answers():
        return [_orphan(stack, name) for name in _left(stack.home.run)]
    place = {program.name: n for n, program in enumerate((*STORES, *stack.services))}
    found = sorted(supervisor.processes(), key=lambda process: place.get(process.name, len(place)))
    return [_row(stack, process) for process in found]


def log_of(stack: Stack, name: str) -> Path:
    """The log of a process.

    Raises:
        CommandError: no process has that name, or it has said nothing yet.
    """
    known = sorted(path.stem for path in stack.home.logs.glob("*.log"))
    if name not in known:
        raise CommandError(
            f"there is no log of {name}",
            f"choose one of: {', '.join(known) or 'none yet; `vigil up` first'}",
            ExitCode.USAGE,
        )
    return stack.home.logs / f"{name}.log"


def _row(stack: Stack, process: Process) -> Row:
    run, port = stack.home.run, remembered_ports(stack.home).get(process.name, 0)
    found = life(run, process.name)
    waits = found is not None and time.monotonic() < found.waits_until
    state = "BACKOFF" if waits and process.state == "RUNNING" else process.state
    return Row(
        name=process.name,
        state=state,
        pid=process.pid,
        port=port,
        uptime_s=process.uptime_s,
        restarts=found.starts - 1 if found else 0,
        exit_code=process.exit_code,
        note=_note(stack, process.name, port, state=state),
    )


def _note(stack: Stack, name: str, port: int, *, state: str) -> str:
    if state == "RUNNING":
        return "" if name in STORE_NAMES else why_not_ready(port)
    if port and not is_free(port):
        return f"port {port} is taken by another program"
    return last_line(stack.home.logs / f"{name}.log")


def _left(run: Path) -> list[str]:
    return [lock.stem for lock in sorted(run.glob("*.lock")) if lives(run, lock.stem)]


def _orphan(stack: Stack, name: str) -> Row:
    found = life(stack.home.run, name)
    return Row(
        name=name,
        state="ORPHAN",
        pid=found.pid if found else 0,
        port=remembered_ports(stack.home).get(name, 0),
        note="its supervisor is gone; `vigil down` ends it",
    )
