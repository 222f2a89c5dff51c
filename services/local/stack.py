"""The local stack as a whole: up, down, and what must be true before either."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault
from services.local import kafka
from services.local.command import vigil
from services.local.conditions import (
    alone,
    deaf_to_ctrl_c,
    pings,
    refuse_full_disk,
    why_not_ready,
)
from services.local.environment import environment, make_keys, ports, remembered_ports
from services.local.home import Home
from services.local.kafka import last_line
from services.local.launch import end, life
from services.local.roster import SERVICES, STORES, Program
from services.local.supervision import Supervisor

PREPARATIONS: Final = (("topics", "apply", "--yes"), ("ledger", "migrate", "--yes"))
LEAST_FREE_BYTES: Final = 1 << 30
STORE_S: Final = 60.0
SERVICE_S: Final = 30.0
STORE_LIVES: Final = 3  # a store that died so often while starting will not come up


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Kafka, ClickHouse and the services on one machine.

    Args:
        home: where their files are.
        given: the environment of the one who asks; a store it names is not started.
        services: what runs beside the stores.
        preparations: commands of `vigil` that run between the stores and the services.
        least_free_bytes: room on the disk without which nothing is started.
        service_wait_s: how long a service may take to become ready.
        in_our_session: whether it runs in the terminal session of the one who asks, so that what
            gives way does so to all of that session; else it has a session of its own.
        tell: takes a line about the progress.
    """

    home: Home
    given: Mapping[str, str]
    services: tuple[Program, ...] = SERVICES
    preparations: tuple[tuple[str, ...], ...] = PREPARATIONS
    least_free_bytes: int = LEAST_FREE_BYTES
    service_wait_s: float = SERVICE_S
    in_our_session: bool = False
    tell: Callable[[str], None] = lambda _: None

    @property
    def programs(self) -> tuple[Program, ...]:
        """What runs here, in the order of its start."""
        stores = tuple(store for store in STORES if not self.given.get(store.replaced_by))
        return (*stores, *self.services)

    @property
    def marker(self) -> Path:
        """Exists from the end of a whole `up` until `down`."""
        return self.home.run / "up"

    def is_up(self) -> bool:
        """Whether an `up` came to its end and its supervisor still runs."""
        return self.marker.exists() and Supervisor(self.home).answers()

    def up(self) -> bool:
        """Starts everything and returns when it works; false when it was up already.

        What it started is ended again when a store or a preparation fails, or on Ctrl-C. A
        service that does not come up is reported, and the rest stays for a look at it.

        Raises:
            CommandError: something cannot start; the text says what and why.
        """
        self.home.root.mkdir(parents=True, exist_ok=True)
        with alone(self.home.root):
            if self.is_up():
                return False
            self._clear()
            with self._undone_on_failure():
                env = self._begin()
                self._start_stores(env)
                self._prepare(env)
                for service in self.services:
                    self._supervisor.start(service.name)
                self.marker.touch()
                troubles = [self._trouble(service) for service in self.services]
        for trouble in filter(None, troubles):
            raise trouble
        return True

    def down(self) -> bool:
        """Ends everything that a process of this stack may have left; false if nothing ran."""
        ran = self.home.run.exists()
        self._clear()
        return ran

    @property
    def _supervisor(self) -> Supervisor:
        return Supervisor(self.home)

    def _begin(self) -> dict[str, str]:
        refuse_full_disk(self.home.root, self.least_free_bytes)
        for folder in (self.home.run, self.home.logs):
            folder.mkdir(parents=True, exist_ok=True)
        make_keys(self.home)
        chosen = self._ports()
        told = environment(self.home, chosen, self.given)
        (self.home.run / "environment.json").write_text(json.dumps(told, indent=2) + "\n")
        env = {**self.given, **told}
        self._supervisor.begin(self.programs, chosen, env, in_our_session=self.in_our_session)
        return env

    def _ports(self) -> dict[str, int]:
        chosen = ports(self.home, self.programs)
        for program in self.programs:
            if chosen[program.name] != program.port:
                self.tell(f"{program.name} takes port {chosen[program.name]}, not {program.port}")
        return chosen

    def _start_stores(self, env: Mapping[str, str]) -> None:
        here = [program.name for program in self.programs]
        if "clickhouse" in here:  # first: it starts while Kafka's storage is formatted
            self.tell("starting ClickHouse")
            self._supervisor.start("clickhouse")
        if "kafka" in here:
            self.tell("starting Kafka (the first time, its jars are fetched)")
            port, remote = _port(env["KAFKA_BOOTSTRAP_SERVERS"]), self.given.get(kafka.SOURCE)
            kafka.prepare(self.home.kafka, port, cache=self.home.cache, remote=remote)
            self._supervisor.start("kafka")
        if "clickhouse" in here:
            self._await_clickhouse(env["CLICKHOUSE_URL"])
        if "kafka" in here:
            log = self.home.logs / "kafka.log"
            kafka.await_answer(env["KAFKA_BOOTSTRAP_SERVERS"], alive=self._kafka_lives, log=log)

    def _kafka_lives(self) -> bool:
        found = life(self.home.run, "kafka")
        return found is None or found.starts <= STORE_LIVES

    def _await_clickhouse(self, url: str) -> None:
        deadline = time.monotonic() + STORE_S
        while not pings(url):
            if time.monotonic() > deadline:
                log = self.home.logs / "clickhouse.log"
                raise CommandError(
                    f"ClickHouse did not come up at {url}: {last_line(log)}",
                    f"read {log}",
                    Fault.CLICKHOUSE_DOWN,
                )
            time.sleep(0.05)

    def _prepare(self, env: Mapping[str, str]) -> None:
        for arguments in self.preparations:
            command = ["vigil", *arguments]
            self.tell(" ".join(command))
            done = vigil(arguments, env)
            if done.returncode:
                said = " ".join((done.stderr or done.stdout).split())
                raise CommandError(
                    f"`{' '.join(command)}` failed: {said}",
                    "mend that, then `vigil up` again; nothing was left running",
                    Fault.PREPARATION,
                    _exit_code(done.returncode),
                )

    def _trouble(self, service: Program) -> CommandError | None:
        """Waits until a service is ready; says why if it ended or did not become so."""
        port = self._port_of(service)
        deadline = time.monotonic() + self.service_wait_s
        while why := self._why_not(service, port):
            process = self._supervisor.process(service.name)
            if process.state == "EXITED" or time.monotonic() > deadline:
                said = last_line(self.home.logs / f"{service.name}.log")
                return CommandError(
                    f"{service.name} is not ready ({why}); its last words: {said}",
                    f"`vigil logs {service.name}`; the rest runs until `vigil down`",
                    Fault.SERVICE_NOT_READY,
                    _exit_code(process.exit_code or ExitCode.UNREACHABLE),
                )
            time.sleep(0.05)
        self.tell(f"{service.name} is up")
        return None

    def _why_not(self, service: Program, port: int) -> str:
        # A port stolen by another stack answers, too, and well.
        if self._supervisor.process(service.name).state == "EXITED":
            return "it has ended"
        return why_not_ready(port)

    def _port_of(self, program: Program) -> int:
        return remembered_ports(self.home)[program.name]

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with deaf_to_ctrl_c():
                self._clear()
            raise

    def _clear(self) -> None:
        """Ends what runs and removes the run folder; harmless when nothing is there."""
        if not self.home.run.exists():
            return
        supervisor = self._supervisor
        if supervisor.answers():
            supervisor.end()
        for lock in sorted(self.home.run.glob("*.lock")):
            end(self.home.run, lock.stem)
        shutil.rmtree(self.home.run)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _exit_code(code: int) -> ExitCode:
    return ExitCode(code) if code in set(ExitCode) else ExitCode.UNREACHABLE
