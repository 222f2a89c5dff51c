"""`vigil up`, `down`, `status`, `logs`, `doctor`: the stack on this machine."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from services.core.errors import ExitCode

if TYPE_CHECKING:
    from rich.table import Table

    from services.local.check import Check
    from services.local.stack import Stack
    from services.local.status import Kept, Row

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
POLL_S: Final = 0.2
COLORS: Final = {"pass": "green", "warn": "yellow", "fail": "red"}


def up() -> None:
    """Start Kafka, ClickHouse and the services; return when they work.

    KAFKA_BOOTSTRAP_SERVERS or CLICKHOUSE_URL set: that part is taken as it is and not started.
    """
    # Ended from outside, it cleans up as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    stack = _stack()
    _say("vigil is up" if stack.up() else "vigil is already up; `vigil status` shows it")


def down() -> None:
    """End everything that `up` started; data, keys and ports stay for the next time."""
    _say("vigil is down" if _stack().down() else "vigil was not up")


def status(*, json: Json = False) -> None:
    """Show every process, and what the ledger has; exit code 1 when one is not well.

    lag: records that wait in the partition where most do, 0 or 1 at rest; behind: by how much
    event time lies behind the clock.
    """
    from services.local.status import kept, rows

    stack = _stack()
    found = rows(stack)
    store = kept(stack) if found else None
    if json:
        processes = [_fields(row) for row in found]
        body = {"up": bool(found), "processes": processes, "store": vars(store) if store else None}
        _print_json("status", body)
    elif found:
        _print_table(_status_table(found))
        print(_kept(store))
    else:
        _say("vigil is down; `vigil up` starts it")
    if not found or not all(row.well for row in found):
        raise typer.Exit(ExitCode.FINDING)


def logs(
    name: Annotated[str, typer.Argument(help="A process, such as scoring.")],
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="From the end.")] = 50,
) -> None:
    """Show what a process said."""
    from services.local.status import log_of

    path = log_of(_stack(), name)
    said = path.read_text(errors="replace").splitlines(keepends=True)
    sys.stdout.writelines(said[len(said) - min(lines, len(said)) :])
    if follow:
        _follow(path)


def doctor(*, json: Json = False) -> None:
    """Check this machine and the stack; exit code 1 when something fails."""
    from services.local.doctor import examine

    found = list(examine(_stack()))
    if json:
        _print_json("doctor", {"checks": [vars(check) for check in found]})
    else:
        _print_table(_doctor_table(found))
    if any(check.state == "fail" for check in found):
        raise typer.Exit(ExitCode.FINDING)


def _stack() -> "Stack":
    from services.local.home import here
    from services.local.stack import Stack

    return Stack(home=here(), given=dict(os.environ), tell=_say)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _fields(row: "Row") -> dict[str, object]:
    return {**vars(row), "well": row.well}


def _print_json(command: str, body: dict[str, object]) -> None:
    import json

    print(json.dumps({"schema": f"vigil.{command}/1", **body}))


def _print_table(table: "Table") -> None:
    from rich.console import Console

    Console().print(table)


def _table(*columns: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(*columns, box=SIMPLE_HEAD)


def _status_table(found: "list[Row]") -> "Table":
    columns = ("state", "pid", "port", "up", "restarts", "lag", "behind", "note")
    table = _table("process", *columns)
    for row in found:
        state = f"{row.state} ({row.exit_code})" if row.exit_code and not row.well else row.state
        numbers = (str(n) if n else "" for n in (row.pid, row.port))
        style = "red" if row.red else ("yellow" if not row.well else None)
        lag = "" if row.lag is None else str(row.lag)
        lived = (_span(row.uptime_s), str(row.restarts), lag, _span(row.watermark_age_s))
        table.add_row(row.name, state, *numbers, *lived, row.note, style=style)
    for column in table.columns[:-1]:
        column.no_wrap = True  # only a note is long
    return table


def _span(seconds: int | None) -> str:
    """A time as people say it: seconds, then minutes, hours, days.

    >>> _span(90), _span(7200), _span(8 * 86_400), _span(-3), _span(None)
    ('90 s', '120 min', '8 d', '-3 s', '')
    """
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds > 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _kept(store: "Kept | None") -> str:
    if store is None:
        return "last ledger record, open signals: unknown, the store does not tell"
    last = f"{store.last_record_at} UTC" if store.last_record_at else "none"
    alarms = f"{store.open_alarms} alarm, {store.open_watches} watch"
    proved = f"{store.proved_at} UTC" if store.proved_at else "never"
    found = f", then {store.findings} FINDINGS" if store.findings else ""
    proof = f"ledger proved whole: {proved}{found}"
    return f"last ledger record: {last}; {proof}; open signals: {alarms}"


def _doctor_table(found: "list[Check]") -> "Table":
    table = _table("check", "", "found", "what to do")
    for check in found:
        table.add_row(
            check.name, check.state, check.found, check.remedy, style=COLORS[check.state]
        )
    return table


def _follow(path: Path) -> None:
    """Shows lines as they come, also after the supervisor turned the file over."""
    while True:
        begun = path.stat().st_ino
        with path.open(errors="replace") as file:
            file.seek(0, os.SEEK_END)
            while path.exists() and path.stat().st_ino == begun:
                sys.stdout.write(file.read())
                sys.stdout.flush()
                time.sleep(POLL_S)
