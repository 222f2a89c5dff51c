"""The whole alert path for tests, and an undisturbed run of its logic to hold it against."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lives import PATIENCE_S, until

from services.audit.rows import alerts as alert_rows
from services.audit.rows import predictions as prediction_rows
from services.core.errors import ExitCode, Retry
from services.core.events import Alert, PredictionBatch
from services.ingest.__main__ import tasks as ingest_tasks
from services.ingest.settings import IngestSettings
from services.local.environment import remembered_ports
from services.local.home import Home
from services.local.kafka import Broker
from services.local.launch import life, lives
from services.local.ports import free_port
from services.local.stack import Stack
from services.runtime.clickhouse import ClickHouse
from services.runtime.codec import Codec
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.reader import ends, scan, stable_ends
from services.runtime.ports import Output, Record, Task
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring.__main__ import tasks as scoring_tasks
from services.scoring.horizon import KEY as HORIZON
from services.scoring.outputs import CHANGELOG
from services.scoring.settings import ScoringSettings
from services.simulator.delivery import Pace, Sent
from services.simulator.feeder import feed
from services.simulator.messages import Message

INGESTED = ["vitals.v1", "receipts.v1", "identity.v1", "patients.v1", "dlq.v1"]
"""Topics that ingest alone writes."""
NOTICES = "notices.v1"
"""Ingest writes it, and so do scoring and the gateway."""
ONE_AFTER_THE_OTHER = """
import contextlib, json, sys
from services.cli.main import app
for words in json.loads(sys.argv[1]):
    with contextlib.suppress(SystemExit):
        app(words, prog_name="vigil")
"""


class WholePath:
    """Kafka, ClickHouse and all services, in a folder of their own.

    Args:
        jar_cache: folder of Kafka's jars.
        broker_apart: the broker is ours, to be killed and started at will; else it is one process
            of the stack, as of `vigil up`, and all of it runs in our session. What gives way to
            what is decided among the processes of one terminal session (sched(7), autogroup): a
            measurement wants them together, and what stands for the world outside with them.
    """

    def __init__(self, jar_cache: Path, *, broker_apart: bool = True) -> None:
        # A short path: the supervisor's socket lies in it.
        self.folder = Path(tempfile.mkdtemp(prefix="vigil-"))
        self.home = Home(root=self.folder / "v", cache=jar_cache)
        self.broker = Broker(self.folder / "kafka", free_port(), cache=jar_cache)
        self._apart = broker_apart
        self.sent: Sent | None = None
        self.enough = threading.Event()
        self._feeding: threading.Thread | None = None

    def start(self) -> None:
        given = dict(os.environ)
        if self._apart:
            given["KAFKA_BOOTSTRAP_SERVERS"] = self.broker.start().bootstrap
        self.stack = Stack(home=self.home, given=given, in_our_session=not self._apart)
        self.stack.up()
        told = json.loads((self.home.run / "environment.json").read_text())
        self.environ: Mapping[str, str] = {**given, **told}
        self.options = {"bootstrap.servers": self.environ["KAFKA_BOOTSTRAP_SERVERS"]}

    def stop(self) -> None:
        # A feed that outlives its test would fall upon the next one.
        self.enough.set()
        with contextlib.suppress(AttributeError):
            self._kill_all()
            self.stack.down()
        if self._apart:
            self.broker.kill()
        shutil.rmtree(self.folder)

    def _kill_all(self) -> None:
        """Nothing of it is kept, and what ends in order takes its seconds."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.home.run / "supervisor.pid").read_text()), signal.SIGKILL)
        for lock in self.home.run.glob("*.lock"):
            if lives(self.home.run, lock.stem):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid(lock.stem), signal.SIGKILL)

    def port(self, service: str) -> int:
        return remembered_ports(self.home)[service]

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.environ['VIGIL_GATEWAY_PORT']}"

    def feed(self, messages: Iterable[Message], pace: Pace) -> None:
        """Send messages in the background, until they end or `enough` is set."""
        progress: list[Sent] = []
        messages = itertools.takewhile(lambda _: not self.enough.is_set(), messages)

        def run() -> None:
            self.sent = asyncio.run(
                feed(messages, self.gateway, pace=pace, progress=progress.append)
            )

        self.progress = progress
        self._feeding = threading.Thread(target=run, daemon=True)
        self._feeding.start()

    def accepted(self) -> int:
        """Messages acknowledged so far."""
        return self.progress[-1].accepted if self.progress else 0

    def fed(self) -> Sent:
        """Wait for the end of the feed."""
        assert self._feeding is not None
        self._feeding.join(PATIENCE_S * 2)
        assert self.sent is not None, "the feed did not end"
        return self.sent

    def pid(self, service: str) -> int:
        found = life(self.home.run, service)
        assert found is not None
        return found.pid

    def kill(self, service: str) -> None:
        """kill -9, and wait until the supervisor has given it another life."""
        before = self.pid(service)
        os.kill(before, signal.SIGKILL)
        self.await_other_life(service, before)

    def await_other_life(self, service: str, before: int) -> None:
        until(lambda: self.pid(service) != before and lives(self.home.run, service))

    def kill_inside_a_transaction(self, service: str, topic: str) -> None:
        """Freeze the service; kill it if its transaction is open on `topic`, else try again.

        A frozen process ends no transaction, so one that is open twice in a row is its own.
        """
        places = self.places([topic])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, "no transaction was ever open"
            victim = self.pid(service)
            # A life may end by itself in between, as one does that finds its door shut.
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGSTOP)
                if self.open_transaction(places) and self.open_transaction(places):
                    os.kill(victim, signal.SIGKILL)
                    self.await_other_life(service, victim)
                    return
                os.kill(victim, signal.SIGCONT)
            time.sleep(0.003)

    def open_transaction(self, places: list[tuple[str, int]]) -> bool:
        try:
            high, stable = ends(self.options, places), stable_ends(self.options, places)
        except Retry:
            return False
        return any(stable[place] < high[place] for place in places)

    def places(self, topics: list[str]) -> list[tuple[str, int]]:
        return partitions_of(self.options, topics)

    def records(self, topics: list[str]) -> Iterator[Record]:
        return scan(self.options, self.places(topics), patience_s=PATIENCE_S)

    def vigil(self, *words: str) -> tuple[int, Any]:
        """Run a command with --json; there is no answer where a store could not be reached."""
        done = subprocess.run(
            [sys.executable, "-m", "services.cli.main", *words, "--json"],
            env=dict(self.environ),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == ExitCode.UNREACHABLE:
            return done.returncode, None
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def said(self, *words: str) -> bytes:
        """Run a command as people do, and give all that it says."""
        return self._output("-m", "services.cli.main", *words)

    def said_of_each(self, *commands: tuple[str, ...]) -> bytes:
        """Run commands one after the other in one process, and give all that they say."""
        return self._output("-c", ONE_AFTER_THE_OTHER, json.dumps(commands))

    def _output(self, *arguments: str) -> bytes:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=dict(self.environ),
            capture_output=True,
            check=False,
        )
        return done.stdout + done.stderr

    def settle(self) -> Any:
        """Wait until every offset is accounted for."""
        deadline = time.monotonic() + PATIENCE_S
        code, answer = self.vigil("ledger", "reconcile")
        while code:
            assert time.monotonic() < deadline, f"not accounted for: {answer}"
            code, answer = self.vigil("ledger", "reconcile")
        return answer

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the store, and give the rows of the answer."""
        store = ClickHouse(self.environ["CLICKHOUSE_URL"])
        columns = store.query(query)
        store.close()
        return list(zip(*columns.values(), strict=True))

    def raw(self, table: str) -> bytes:
        """Give all that a table holds, each text as its bytes."""
        query = f"SELECT * FROM {table} FORMAT RowBinary".encode()
        with urllib.request.urlopen(self.environ["CLICKHOUSE_URL"], query) as answer:  # noqa: S310 - our own
            return bytes(answer.read())

    # What an undisturbed run over the same logs gives.

    def ingested_undisturbed(self) -> Counter[tuple[str, int | None, bytes | None, bytes | None]]:
        make = ingest_tasks(self._settings(IngestSettings), self.options, self._metrics("ingest"))
        return Counter(
            (o.topic, o.partition, o.key, o.value) for o in self._run(make, "fhir.raw.v1")
        )

    def scored_undisturbed(self) -> dict[str, list[Any]]:
        make = scoring_tasks(
            self._settings(ScoringSettings), self.options, self._metrics("scoring")
        )
        # What was held because a life came back late is a matter of when it came.
        changelog = self.records([CHANGELOG])
        horizons = {r.partition: r.value for r in changelog if r.key == HORIZON}

        def late(partition: int) -> Task:
            task = make(partition)
            task.load(HORIZON, horizons.get(partition))
            return task

        outputs = list(self._run(late, "vitals.v1"))
        return self.exploded((o.topic, o.partition or 0, o.value or b"") for o in outputs)

    def exploded(self, messages: Iterable[tuple[str, int, bytes]]) -> dict[str, list[Any]]:
        """Cut batches into entries, per partition: where batches end is a matter of timing."""
        codec = Codec(Path(self.environ["VIGIL_SCHEMAS"]))
        found: dict[str, list[Any]] = {}
        for topic, partition, value in messages:
            if topic == "predictions.v1":
                columns = dict(prediction_rows(codec.decode(value, PredictionBatch)))
            else:
                columns = dict(alert_rows(codec.decode(value, Alert)))
            # The watermark is said once per batch, the index counts within one.
            kept = {n: c for n, c in columns.items() if n not in {"watermark", "index"}}
            lines = [str(line) for line in zip(*kept.values(), strict=True)]
            found.setdefault(f"{topic}/{partition}", []).extend(lines)
        return found

    def _run(self, make: Callable[[int], Task], topic: str) -> Iterator[Output]:
        logs: dict[int, list[Record]] = {}
        for record in self.records([topic]):
            logs.setdefault(record.partition, []).append(record)
        for partition, log in sorted(logs.items()):
            yield from make(partition).handle(log)

    def _settings(self, kind: type[Any]) -> Any:
        names = {name: f"VIGIL_{name.upper()}" for name in kind.model_fields}
        given = {name: self.environ[env] for name, env in names.items() if env in self.environ}
        return kind(**given)

    def _metrics(self, service: str) -> Metrics:
        return Metrics(Build.of(service))
