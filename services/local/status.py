"""What `vigil status` shows: every process of the stack, and what is the matter with it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault
from services.local.command import ask
from services.local.conditions import pings, why_not_ready
from services.local.environment import environment, remembered_ports
from services.local.kafka import last_line
from services.local.launch import life, lives
from services.local.meters import SILENT, meters
from services.local.ports import is_free
from services.local.roster import STORES
from services.local.stack import Stack
from services.local.supervision import Process, Supervisor

STORE_NAMES: Final = frozenset(store.name for store in STORES)
RED: Final = frozenset({"EXITED", "FATAL", "ORPHAN"})
MUST_NOT_GO_ON: Final = frozenset({ExitCode.CONFIGURATION, ExitCode.STOP})
KEPT: Final = (
    "SELECT (SELECT toString(maxOrNull(recorded_at)) FROM ledger) AS last_record_at,"
    " (SELECT countIf(severity = 'alarm') FROM signals_open) AS open_alarms,"
    " (SELECT countIf(severity = 'watch') FROM signals_open) AS open_watches,"
    " (SELECT toString(maxOrNull(if(findings = 0, ended_at, NULL))) FROM verifications)"
    " AS proved_at,"
    " (SELECT argMax(findings, ended_at) FROM verifications) AS findings"
)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What the ledger's store says.

    Args:
        last_record_at: UTC by the store's clock; None when the ledger is empty.
        open_alarms: signals that stand open and are alarm.
        open_watches: signals that stand open and are watch.
        proved_at: UTC, when `vigil ledger verify` last found nothing; None never.
        findings: of the last verification; 0 when there was none.
    """

    last_record_at: str | None
    open_alarms: int
    open_watches: int
    proved_at: str | None
    findings: int


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
        lag: records that wait in the partition where most do, 0 or 1 at rest; None unknown.
        watermark_age_s: by how much event time lies behind the clock; None unknown.
    """

    name: str
    state: str
    pid: int = 0
    port: int = 0
    uptime_s: int = 0
    restarts: int = 0
    exit_code: int = 0
    note: str = ""
    lag: int | None = None
    watermark_age_s: int | None = None

    @property
    def well(self) -> bool:
        """Whether nothing needs to be done."""
        return self.state == "RUNNING" and not self.note

    @property
    def red(self) -> bool:
        """Whether it will not work again before somebody does something."""
        stopped = self.exit_code in MUST_NOT_GO_ON and self.state != "RUNNING"
        return self.state in RED or stopped


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


def kept(stack: Stack, answers: Callable[[str], bool] = pings) -> Kept | None:
    """What the store says; None when it does not answer, or has no tables yet."""
    told = environment(stack.home, remembered_ports(stack.home), stack.given)
    if not answers(told["CLICKHOUSE_URL"]):
        return None
    try:
        return Kept(**ask(KEPT, {**stack.given, **told})[0])
    except CommandError:
        return None


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
            Fault.NO_LOG,
        )
    return stack.home.logs / f"{name}.log"


def _row(stack: Stack, process: Process) -> Row:
    run, port = stack.home.run, remembered_ports(stack.home).get(process.name, 0)
    found = life(run, process.name)
    waits = found is not None and time.monotonic() < found.waits_until
    state = "BACKOFF" if waits and process.state == "RUNNING" else process.state
    works = state == "RUNNING" and process.name not in STORE_NAMES
    told = meters(port, stack.given) if works else SILENT
    return Row(
        name=process.name,
        state=state,
        pid=process.pid,
        port=port,
        uptime_s=process.uptime_s,
        restarts=found.starts - 1 if found else 0,
        exit_code=process.exit_code,
        note=_note(stack, process.name, port, state=state),
        lag=told.lag,
        watermark_age_s=_age_s(told.watermark_at),
    )


def _age_s(at: float | None) -> int | None:
    return None if at is None else int(time.time() - at)


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
