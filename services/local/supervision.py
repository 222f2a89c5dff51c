"""The supervisor: what it is configured with, and what it is told over its socket."""

import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]  # no stubs exist

from services.core.errors import CommandError
from services.core.faults import Fault
from services.local.home import REPO, Home
from services.local.launch import GIVES_WAY
from services.local.roster import Program

LONGEST_SOCKET: Final = 90  # of 107 bytes; the supervisor binds a longer name before it renames
END_S: Final = 60.0
HEAD: Final = """\
[unix_http_server]
file={run}/supervisor.sock
chmod=0700
[supervisord]
logfile={logs}/supervisor.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile={run}/supervisor.pid
childlogdir={logs}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM: Final = """\
[program:{name}]
command={command}
directory={directory}
environment={told_by}="{port}"
autostart=false
startsecs=0
autorestart=unexpected
exitcodes={final}
priority={priority}
stopwaitsecs=20
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
"""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process as the supervisor sees it; times in seconds."""

    name: str
    state: str
    pid: int
    uptime_s: int
    exit_code: int


class Supervisor:
    """The supervisor of one home; it need not run.

    Raises:
        CommandError: the path of the home is too long for a socket.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._socket = home.run / "supervisor.sock"
        if len(str(self._socket).encode()) > LONGEST_SOCKET:
            raise CommandError(
                f"the path {home.root} is too long for the supervisor's socket",
                "set VIGIL_HOME to a shorter path",
                Fault.PATH_TOO_LONG,
            )

    def begin(
        self,
        programs: Iterable[Program],
        ports: Mapping[str, int],
        env: dict[str, str],
        *,
        in_our_session: bool = False,
    ) -> None:
        """Starts the supervisor with all programs stopped.

        Args:
            programs: that it may start.
            ports: of each.
            env: of all.
            in_our_session: whether it belongs to the terminal session of the caller; else it has
                one of its own.

        Raises:
            CommandError: it did not start.
        """
        path = self._home.run / "supervisor.conf"
        path.write_text(configuration(self._home, programs, ports))
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)]
        log = str(self._home.logs / "supervisor.log")
        if in_our_session:  # what becomes a daemon leaves it
            command = ["sh", "-c", '"$@" >/dev/null 2>>"$0" &', log, *command, "--nodaemon"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own command line
        _await(self.answers, 10.0)
        if not self.answers():
            raise CommandError(
                f"the supervisor did not start: {(done.stderr or done.stdout).strip()[-300:]}",
                f"read {log}",
                Fault.SUPERVISOR,
            )

    def answers(self) -> bool:
        """Whether it runs."""
        try:
            self._call("getState")
        except (OSError, HTTPException):
            return False
        return True

    def start(self, name: str) -> None:
        """Starts a program and keeps it alive from now on."""
        self._call("startProcess", name, False)  # noqa: FBT003 - an XML-RPC argument

    def processes(self) -> list[Process]:
        """All programs, in the order of their start."""
        return [_process(info) for info in self._call("getAllProcessInfo")]

    def process(self, name: str) -> Process:
        """One program."""
        return _process(self._call("getProcessInfo", name))

    def end(self) -> None:
        """Ends every program, services before stores, then the supervisor; waits for it."""
        self._call("shutdown")
        _await(lambda: not (self._home.run / "supervisor.pid").exists(), END_S)

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def configuration(home: Home, programs: Iterable[Program], ports: Mapping[str, int]) -> str:
    """The supervisor's file: a socket in the home and no TCP port."""
    head = HEAD.format(run=_plain(home.run), logs=_plain(home.logs))
    return head + "".join(_section(home, program, ports[program.name]) for program in programs)


def _section(home: Home, program: Program, port: int) -> str:
    told = [str(home.run), program.name, GIVES_WAY if program.gives_way else "-"]
    launcher = [sys.executable, "-m", "services.local.launch", *told]
    filled = [_filled(part, home, port) for part in program.command]
    return PROGRAM.format(
        name=program.name,
        command=_plain(shlex.join([*launcher, *filled])),
        directory=_plain(REPO),
        told_by=program.told_by,
        port=port,
        final=",".join(str(code) for code in program.final),
        priority=10 if program.replaced_by else 20,
        log=_plain(home.logs / f"{program.name}.log"),
    )


def _filled(part: str, home: Home, port: int) -> str:
    return part.replace("{port}", str(port)).replace("{home}", str(home.root))


def _plain(text: object) -> str:
    """Text in which the supervisor expands nothing."""
    return str(text).replace("%", "%%")


def _process(info: dict[str, Any]) -> Process:
    running = info["statename"] == "RUNNING"
    return Process(
        name=info["name"],
        state=info["statename"],
        pid=info["pid"],
        uptime_s=info["now"] - info["start"] if running else 0,
        exit_code=info["exitstatus"],
    )


def _await(condition: Any, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
