"""The audit service as a process on the real broker and engine: killed, shut out, proved."""

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import alert_path as hospital
import msgspec
import pytest
from confluent_kafka import Message, Producer
from lives import PATIENCE_S, Lives, until
from typing_extensions import override

from services.audit.migrate import apply, read_migrations
from services.audit.rows import TABLES
from services.audit.verdict import Noted, note
from services.audit.verify import rows
from services.core.errors import ExitCode
from services.core.events import Fate
from services.local import inspection
from services.local.home import REPO
from services.local.kafka import Broker
from services.local.ports import free_port
from services.local.status import KEPT, Kept
from services.runtime.clickhouse import ClickHouse
from services.runtime.codec import Codec
from services.runtime.kafka.admin import create_topic, partitions_of, topics
from services.runtime.kafka.client import QUIET
from services.runtime.kafka.reader import scan
from services.runtime.topics.files import read_topics

pytestmark = [pytest.mark.wire, pytest.mark.slow]

CODEC = Codec(REPO / "schemas")
PARTITIONS = 2
RAW_PER_ROUND = 25
TABLE_NAMES = ["ledger", *TABLES]
Environment = Mapping[str, str]


@pytest.fixture(scope="module")
def cluster(jar_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker with the topics of the contract, which no other test writes to."""
    node = Broker(tmp_path_factory.mktemp("kafka"), free_port(), cache=jar_cache)
    try:
        bootstrap = node.start().bootstrap
        for topic in read_topics(REPO / "schemas"):
            create_topic(
                {"bootstrap.servers": bootstrap},
                topic.topic,
                partitions=PARTITIONS,
                config=topic.settings(),
            )
        yield bootstrap
    finally:
        node.kill()


@pytest.fixture
def root(clickhouse: tuple[str, int]) -> Iterator[ClickHouse]:
    door = ClickHouse(f"http://{clickhouse[0]}:{clickhouse[1]}")
    yield door
    door.close()


@contextmanager
def _store(clickhouse: tuple[str, int], root: ClickHouse) -> Iterator[tuple[ClickHouse, str]]:
    name = f"test_{uuid4().hex}"
    root.command(f"CREATE DATABASE {name}")
    url = f"http://{clickhouse[0]}:{clickhouse[1]}/{name}"
    store = ClickHouse(url)
    apply(store, read_migrations())
    yield store, url
    store.close()
    root.command(f"DROP DATABASE {name}")


def _environment(cluster: str, url: str, home: Path, port: int = 0) -> Environment:
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": cluster,
        "CLICKHOUSE_URL": url,
        "VIGIL_HOME": str(home),
        "VIGIL_SCHEMAS": str(REPO / "schemas"),
        "VIGIL_METRICS_PORT": str(port),
    }


def _service(environment: Environment) -> Lives:
    (home := Path(environment["VIGIL_HOME"])).mkdir(exist_ok=True)
    log = home / f"audit-{uuid4().hex}.log"
    return Lives("audit", [sys.executable, "-m", "services.audit"], log, environment)


def _command(environment: Environment, *words: str) -> tuple[int, dict[str, Any]]:
    command = [str(Path(sys.executable).with_name("vigil")), *words, "--json"]
    done = subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def _count(store: ClickHouse, table: str = "ledger") -> int:
    return int(store.query(f"SELECT count() AS n FROM {table}")["n"][0])


class Feed(threading.Thread):
    """Plays gateway, ingest and scoring: raw records, then transactions, some of them aborted."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.enough = threading.Event()
        self._raw = Producer({"bootstrap.servers": bootstrap, **QUIET, "linger.ms": 1})
        self._ingest = self._transactional(bootstrap, "test-ingest")
        self._scoring = self._transactional(bootstrap, "test-scoring")
        self._vitals_id = topics({"bootstrap.servers": bootstrap})["vitals.v1"].topic_id
        self.rounds = 0
        self.committed = 0
        self._round_s: list[float] = []

    @override
    def run(self) -> None:
        began = time.monotonic()
        while not self.enough.wait(0.05):
            raw = self._send_raw(self.rounds)
            if self.rounds % 5 == 3:
                self._score(self._normalize(raw, abort=True))
            self._score(self._normalize(raw, abort=False))
            self.rounds += 1
            before, began = began, time.monotonic()
            self._round_s.append(began - before)

    def rate(self) -> float:
        """Records per second while it fed: a machine that stalls now and then makes it no less."""
        return self.committed / self.rounds / median(self._round_s)

    @staticmethod
    def _transactional(bootstrap: str, name: str) -> Producer:
        options = {"bootstrap.servers": bootstrap, **QUIET, "linger.ms": 0}
        producer = Producer({**options, "transactional.id": name})
        producer.init_transactions(PATIENCE_S)
        return producer

    def _send_raw(self, number: int) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        for at in range(RAW_PER_ROUND):
            self._raw.produce(
                "fhir.raw.v1",
                value=b'{"resourceType": "Bundle"}',
                key=f"{number} {at}".encode(),
                headers=[("source", b"west"), ("ingest_id", f"{number}-{at}".encode())],
                on_delivery=lambda error, message: places.append(_place(error, message)),
            )
        self._raw.flush(PATIENCE_S)
        self.committed += len(places)
        return places

    def _normalize(self, raw: list[tuple[int, int]], *, abort: bool) -> list[tuple[int, int]]:
        """The first raw record is a tick; of the others entry 2 is dead."""
        self._ingest.begin_transaction()
        places: list[tuple[int, int]] = []
        for partition in range(PARTITIONS):
            self._say(self._ingest, "vitals.v1", partition, hospital.tick(raw[0]), places)
        self._say(self._ingest, "receipts.v1", 0, hospital.receipt(raw[0], [Fate.TICK]))
        fates = [Fate.VITALS, Fate.VITALS, Fate.DEAD, Fate.OUT_OF_SCOPE]
        for at in raw[1:]:
            where = at[1] % PARTITIONS
            self._say(self._ingest, "vitals.v1", where, hospital.vitals(at, [0, 0, 1]), places)
            self._say(self._ingest, "receipts.v1", where, hospital.receipt(at, fates))
            self._say(self._ingest, "dlq.v1", where, hospital.dead_letter(at, 2))
        self._say(self._ingest, "patients.v1", 0, hospital.patient(1))
        self._say(self._ingest, "identity.v1", 0, hospital.identity(1))
        return self._end(self._ingest, places, others=2 * len(raw) + 1, abort=abort)

    def _score(self, vitals: list[tuple[int, int]]) -> None:
        if not vitals:
            return
        self._scoring.begin_transaction()
        for partition in range(PARTITIONS):
            offsets = sorted(offset for number, offset in vitals if number == partition)
            batch = hospital.predictions(partition, offsets, vitals_topic_id=self._vitals_id)
            self._say(self._scoring, "predictions.v1", partition, batch)
            self._say(self._scoring, "alerts.v1", partition, hospital.alert(partition, offsets[0]))
        self._end(self._scoring, [], others=2 * PARTITIONS, abort=False)

    def _say(
        self,
        producer: Producer,
        topic: str,
        partition: int,
        event: msgspec.Struct,
        places: list[tuple[int, int]] | None = None,
    ) -> None:
        def delivered(error: object, message: Message) -> None:
            if places is not None:
                places.append(_place(error, message))

        producer.produce(
            topic,
            value=CODEC.encode(event),
            key=b"key",
            partition=partition,
            on_delivery=delivered,
        )

    def _end(
        self, producer: Producer, places: list[tuple[int, int]], *, others: int, abort: bool
    ) -> list[tuple[int, int]]:
        producer.flush(PATIENCE_S)
        if abort:
            producer.abort_transaction(PATIENCE_S)
            return []
        producer.commit_transaction(PATIENCE_S)
        self.committed += len(places) + others
        return places


def _place(error: object, message: Message) -> tuple[int, int]:
    assert error is None
    return message.partition() or 0, message.offset() or 0


def _everything(store: ClickHouse) -> dict[str, list[Any]]:
    """A digest per row of each table, all but the clock of the store, in order."""
    found = {}
    for table in TABLE_NAMES:
        clock = "EXCEPT recorded_at" if table == "ledger" else ""
        ordered = "topic, partition, offset" + ("" if table == "ledger" else ", `index`")
        found[table] = list(
            store.query(
                "SELECT hex(SHA256(toString(tuple(*)))) AS it"
                f" FROM (SELECT * {clock} FROM {table} ORDER BY {ordered})"
            )["it"]
        )
    return found


def test_three_kills_in_flight_lose_nothing_and_write_nothing_twice(
    cluster: str, clickhouse: tuple[str, int], root: ClickHouse, tmp_path: Path
) -> None:
    feed = Feed(cluster)
    with _store(clickhouse, root) as (store, url), _store(clickhouse, root) as (calm, calm_url):
        environment = _environment(cluster, url, tmp_path / "killed")
        feed.start()
        for _ in range(3):
            with _service(environment):
                _await_growth(store, 400)
                assert feed.is_alive(), "killed in flight, not after"
        with _service(environment) as service:
            _await_growth(store, 400)
            feed.enough.set()
            feed.join()
            assert feed.rate() >= 300
            until(lambda: _count(store) >= feed.committed, "the ledger holds everything")
            assert service.end() == ExitCode.OK
        with _service(_environment(cluster, calm_url, tmp_path / "calm")):
            until(lambda: _count(calm) >= feed.committed, "the undisturbed ledger is whole")
        assert _count(store) == feed.committed
        expected, found = _everything(calm), _everything(store)
        assert {t: len(rows) for t, rows in found.items()} == {
            t: len(rows) for t, rows in expected.items()
        }
        assert found == expected
        code, proof = _command(environment, "ledger", "verify")
        assert (code, proof["findings"], proof["records"]) == (0, [], feed.committed)
        code, account = _command(environment, "ledger", "reconcile")
        assert (code, account["unexplained"]) == (0, {})
        assert account["raw_records"] == feed.rounds * RAW_PER_ROUND
        assert account["raw_entries"]["dead"] == feed.rounds * (RAW_PER_ROUND - 1)
        assert account["vitals_records"] == feed.rounds * (RAW_PER_ROUND - 1 + PARTITIONS)
        _remove_and_find(store, environment)


def _await_growth(store: ClickHouse, records: int) -> None:
    least = _count(store) + records
    until(lambda: _count(store) > least, "the ledger grows")


def _remove_and_find(store: ClickHouse, environment: Environment) -> None:
    """Takes a row out of each account, at another offset each; all are found missing."""
    expected = {
        ("predictions", "1"): "vitals record without prediction",
        ("receipts", "fate != 'tick'"): "raw record without receipt",
        ("dead_letters", "1"): "entry without dead letter",
        ("vitals", "kind != 'tick'"): "entry without vitals event",
        ("vitals", "kind = 'tick'"): "tick missing in a vitals partition",
    }
    for number, (table, kind) in enumerate(expected):
        chosen = f"SELECT DISTINCT offset FROM {table} WHERE partition = 1 AND {kind}"
        store.command(
            f"ALTER TABLE {table} DELETE WHERE partition = 1 AND offset ="
            f" ({chosen} ORDER BY offset LIMIT 1 OFFSET {3 * number})"
            f" AND {kind} SETTINGS mutations_sync = 2"
        )
    code, account = _command(environment, "ledger", "reconcile", "--patience", "0")
    assert (code, account["ok"]) == (ExitCode.FINDING, False)
    assert set(expected.values()) <= account["unexplained"].keys()
    assert set(expected.values()) <= {one["what"] for one in account["first"]}


def test_a_killed_store_comes_back_with_a_ledger_that_goes_on(
    cluster: str, engine: Callable[[Path], Any], tmp_path: Path
) -> None:
    feed, data = Feed(cluster), tmp_path / "clickhouse"
    first = engine(data)
    store, url = _own_store(first.ready())
    apply(store, read_migrations())
    feed.start()
    with _service(_environment(cluster, url, tmp_path)) as service:
        _await_growth(store, 400)
        known = len(service.codes)
        first.process.kill()
        until(lambda: len(service.codes) > known, "the service ends without its store")
        assert service.codes[known] == ExitCode.CRASH
    feed.enough.set()
    feed.join()
    store, url = _own_store(engine(data).ready())
    expected = _readable(cluster)
    with _service(_environment(cluster, url, tmp_path)):
        until(lambda: _count(store) >= expected, "the ledger is whole again")
    assert _count(store) == expected
    code, proof = _command(_environment(cluster, url, tmp_path), "ledger", "verify")
    assert (code, proof["findings"], proof["records"]) == (0, [], expected)
    code, account = _command(_environment(cluster, url, tmp_path), "ledger", "reconcile")
    assert (code, account["unexplained"]) == (0, {})
    store.close()


def _own_store(address: tuple[str, int]) -> tuple[ClickHouse, str]:
    url = f"http://{address[0]}:{address[1]}"
    return ClickHouse(url), url


def _readable(cluster: str) -> int:
    """How many committed records Kafka holds, of every feed that ran on it."""
    options = {"bootstrap.servers": cluster}
    names = [t.topic for t in read_topics(REPO / "schemas") if "audit" in t.consumers]
    return sum(1 for _ in scan(options, partitions_of(options, names), patience_s=PATIENCE_S))


def test_a_second_service_leaves_while_the_first_holds_the_lock(
    cluster: str, clickhouse: tuple[str, int], root: ClickHouse, tmp_path: Path
) -> None:
    port = free_port()
    with _store(clickhouse, root) as (_, url):
        with _service(_environment(cluster, url, tmp_path, port)) as first:
            until(lambda: _status(port, "/readyz") == 200, "the first is ready")
            with _service(_environment(cluster, url, tmp_path)) as second:
                assert second.ends() == ExitCode.CRASH
                until(lambda: "audit.lock" in second.said(), "it says what it waits for")
            assert (_status(port, "/livez"), _status(port, "/metrics")) == (200, 200)
            first.kill()
        with _service(_environment(cluster, url, tmp_path, port)):
            until(lambda: _status(port, "/readyz") == 200, "the lock of a killed one is free")


def _status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except urllib.error.URLError:
        return 0


def test_without_its_store_or_its_tables_the_service_leaves_to_be_restarted(
    cluster: str, clickhouse: tuple[str, int], root: ClickHouse, tmp_path: Path
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with _service(_environment(cluster, nobody, tmp_path)) as service:
        assert service.ends() == ExitCode.CRASH
    empty = f"test_{uuid4().hex}"
    root.command(f"CREATE DATABASE {empty}")
    url = f"http://{clickhouse[0]}:{clickhouse[1]}/{empty}"
    with _service(_environment(cluster, url, tmp_path)) as service:
        assert service.ends() == ExitCode.CRASH
        until(lambda: "vigil ledger migrate" in service.said(), "it says what to do")
    root.command(f"DROP DATABASE {empty}")


def test_what_a_verification_found_is_noted_and_shown_by_the_next_life_of_the_service(
    cluster: str, clickhouse: tuple[str, int], root: ClickHouse, tmp_path: Path
) -> None:
    with _store(clickhouse, root) as (store, url):
        environment = _environment(cluster, url, tmp_path, port := free_port())
        code, proof = _command(environment, "ledger", "verify")
        assert (code, proof["ok"]) == (0, True)
        noted = store.query("SELECT findings, chains, verifier, version FROM verifications")
        assert {name: list(column) for name, column in noted.items()} == {
            "findings": [0],
            "chains": [len(proof["chains"])],
            "verifier": ["default"],
            "version": [version("vigil")],
        }
        of: dict[str, Any] = {"seconds": 1.0, "records": 9, "chains": 3, "sound": 2}
        note(store, Noted(findings=2, heads="0" * 64, version="x", **of))
        before = time.time()
        with _service(environment):
            shown = _await_series(port, "vigil_ledger_findings", "2.0")
        [good_at] = re.findall(
            r"^vigil_ledger_verified_timestamp_seconds\S* (\S+)$", shown, re.MULTILINE
        )
        assert before - PATIENCE_S < float(good_at) <= before
        check = inspection.proof(lambda question: list(rows(store.query(question))))
        assert (check.state, check.found) == ("fail", "the last proof found 2 that do not fit")
        [kept] = rows(store.query(KEPT))
        assert (kept["findings"], bool(Kept(**kept).proved_at)) == (2, True)


def _await_series(port: int, name: str, value: str) -> str:
    deadline = time.monotonic() + PATIENCE_S
    shown = ""
    while not re.search(rf"^{name}\S* {value}$", shown, re.MULTILINE):
        assert time.monotonic() < deadline, shown
        time.sleep(0.1)
        with (
            suppress(urllib.error.URLError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer,
        ):
            shown = answer.read().decode()
    return shown
