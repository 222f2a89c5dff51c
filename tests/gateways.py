"""The gateway as a process of its own, and what it wrote."""

import contextlib
import os
import re
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final, Self

import httpx
from lives import PATIENCE_S, Lives, until

from services.local.ports import free_port
from services.runtime.kafka.admin import create_topic, partitions_of, topics
from services.runtime.kafka.reader import ends, scan, stable_ends
from services.runtime.ports import Record

TOPIC = "fhir.raw.v1"
AT_TEN = {"Vigil-Source": "west", "Vigil-Time": "2026-01-01T10:00:00Z"}
DEADLINE_S: Final = PATIENCE_S
# The gateway answers when Kafka has: httpx alone would not wait for a broker that stands still.
get = partial(httpx.get, timeout=DEADLINE_S)
post = partial(httpx.post, timeout=DEADLINE_S)


class Gateway:
    """One gateway, its log in a file."""

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
        words = [sys.executable, "-m", "services.gateway"]
        self._lives = Lives("gateway", words, self.said, self._environment).start()

    def kill(self) -> None:
        self._lives.close()

    def end(self) -> int:
        """SIGTERM, and give its exit code."""
        return self._lives.end()

    def ends(self) -> int:
        """Give the exit code with which it ended by itself."""
        return self._lives.ends()

    @property
    def codes(self) -> list[int]:
        """How its lives have ended since it was started."""
        return self._lives.codes

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kept(self) -> float | None:
        """Ask how many records wait on its disk."""
        with contextlib.suppress(httpx.TransportError):
            told = get(f"{self.url}/metrics").text
            return float(re.findall(r"^vigil_outbox_records\{.*\} (\S+)$", told, re.MULTILINE)[0])
        return None

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return get(f"{self.url}/readyz").status_code == 200
        return False

    def hears(self) -> bool:
        answer = post(f"{self.url}/outcomes", json=through("a"), headers=AT_TEN)
        return answer.status_code == 202

    def await_ready(self) -> None:
        until(self.ready, "the gateway becomes ready")


def through(name: str) -> dict[str, object]:
    return {"id": name, "complete_through": "2026-01-01T09:00:00Z"}


def log_of(bootstrap: str, topic: str = TOPIC) -> list[Record]:
    """Read a whole topic, once no transaction is open: markers come after the commit's answer."""
    options = {"bootstrap.servers": bootstrap}
    places = partitions_of(options, [topic])
    until(lambda: stable_ends(options, places) == ends(options, places), "no transaction is open")
    return list(scan(options, places, patience_s=PATIENCE_S))


def prepare(bootstrap: str, names: Iterable[str] = (TOPIC,)) -> None:
    options = {"bootstrap.servers": bootstrap}
    for name in set(names) - set(topics(options)):
        create_topic(options, name, partitions=4, config={"max.message.bytes": "2097152"})
