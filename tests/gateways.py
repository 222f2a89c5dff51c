"""The gateway as a process of its own, and what it wrote."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import httpx

from services.local.home import REPO
from services.local.ports import free_port
from services.runtime.kafka.admin import create_topic, partitions_of, topics
from services.runtime.kafka.reader import ends, scan, stable_ends
from services.runtime.ports import Record

TOPIC = "fhir.raw.v1"
AT_TEN = {"Vigil-Source": "west", "Vigil-Time": "2026-01-01T10:00:00Z"}
DEADLINE_S = 60.0


def eventually(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


class Gateway:
    """One process of the gateway, its log in a file."""

    def __init__(self, bootstrap: str, folder: Path, **environment: str) -> None:
        (folder / "key").write_text("5a" * 32)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.said = folder / "gateway.log"
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("VIGIL_", "KAFKA_"))},
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "VIGIL_GATEWAY_PORT": str(port),
            "VIGIL_PSEUDONYM_KEY_FILE": str(folder / "key"),
            **environment,
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        with self.said.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.gateway"],
                cwd=REPO,
                env=self._environment,
                stderr=log,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kept(self) -> float | None:
        """Ask how many records wait on its disk."""
        with contextlib.suppress(httpx.TransportError):
            told = httpx.get(f"{self.url}/metrics").text
            return float(re.findall(r"^vigil_outbox_records\{.*\} (\S+)$", told, re.MULTILINE)[0])
        return None

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz").status_code == 200
        return False

    def hears(self) -> bool:
        answer = httpx.post(f"{self.url}/outcomes", json=through("a"), headers=AT_TEN)
        return answer.status_code == 202

    def await_ready(self) -> None:
        eventually(self.ready, "the gateway did not become ready")

    def ends(self) -> int:
        return self.process.wait(DEADLINE_S)


def through(name: str) -> dict[str, object]:
    return {"id": name, "complete_through": "2026-01-01T09:00:00Z"}


def log_of(bootstrap: str, topic: str = TOPIC) -> list[Record]:
    """Read a whole topic, once no transaction is open: markers come after the commit's answer."""
    options = {"bootstrap.servers": bootstrap}
    places = partitions_of(options, [topic])
    eventually(
        lambda: stable_ends(options, places) == ends(options, places), "a transaction stays open"
    )
    return list(scan(options, places, patience_s=20))


def prepare(bootstrap: str, names: Iterable[str] = (TOPIC,)) -> None:
    options = {"bootstrap.servers": bootstrap}
    for name in set(names) - set(topics(options)):
        create_topic(options, name, partitions=4, config={"max.message.bytes": "2097152"})
