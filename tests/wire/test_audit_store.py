"""The ledger in the real engine: blocks that are cut off, rows that are tampered with."""

import json
import socket
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import uuid4

import alert_path as hospital
import msgspec
import pytest
from typing_extensions import override

from services.audit.migrate import apply, pending, read_migrations
from services.audit.proof import Finding
from services.audit.recorder import Recorder, Source
from services.audit.rows import TABLES
from services.audit.verify import Report, Verifier, rows
from services.audit.writer import heads, held_beyond, write
from services.cli.sql import ask
from services.core.errors import CommandError, Retry, Stop
from services.core.events import Fate
from services.core.vitals import VARIABLES
from services.local.home import REPO
from services.runtime.clickhouse import ClickHouse, Rejected
from services.runtime.codec import EVENTS, Codec
from services.runtime.ports import Record
from services.runtime.topics.files import read_topics

pytestmark = pytest.mark.wire

CODEC = Codec(REPO / "schemas")
SOURCES = {
    topic.topic: Source(
        topic=topic.topic,
        topic_id=f"{number:032x}",
        phi=topic.phi,
        event=EVENTS[topic.event] if topic.event else None,
    )
    for number, topic in enumerate(read_topics(REPO / "schemas"))
    if "audit" in topic.consumers
}
EXAMPLES = {
    topic: [
        bytes.fromhex(json.loads(path.read_text())["wire"])
        for path in sorted((REPO / "schemas" / "examples" / topic).glob("*.json"))
    ]
    for topic in (
        "feedback.v1",
        "outcomes.v1",
        "labelled.v1",
        "metrics.v1",
        "signals.v1",
        "changes.v1",
    )
}
CHAINS = {(source.topic_id, p): topic for topic, source in SOURCES.items() for p in (0, 1)}
TABLE_NAMES = ["ledger", *TABLES]
FEBRUARY = 1_772_323_199_990  # ms; ten records later it is March


class Address(NamedTuple):
    url: str
    database: str


@contextmanager
def _database(clickhouse: tuple[str, int]) -> Iterator[Address]:
    url, name = f"http://{clickhouse[0]}:{clickhouse[1]}", f"test_{uuid4().hex}"
    root = ClickHouse(url)
    root.command(f"CREATE DATABASE {name}")
    yield Address(f"{url}/{name}", name)
    root.command(f"DROP DATABASE {name}")
    root.close()


def _migrated(address: Address) -> ClickHouse:
    door = ClickHouse(address.url)
    apply(door, read_migrations())
    return door


@pytest.fixture
def address(clickhouse: tuple[str, int]) -> Iterator[Address]:
    with _database(clickhouse) as address:
        yield address


@pytest.fixture
def store(address: Address) -> Iterator[ClickHouse]:
    door = _migrated(address)
    yield door
    door.close()


@pytest.fixture(scope="module")
def asked(clickhouse: tuple[str, int]) -> Iterator[ClickHouse]:
    """A store that is only asked."""
    with _database(clickhouse) as address:
        door = _migrated(address)
        _live(door, _records(1), 16)
        yield door
        door.close()


class CutError(Exception):
    """The process ends here."""


class Cut(ClickHouse):
    """Ends its process at one insert: before it, in the middle of its rows, or after it."""

    def __init__(self, url: str, *, insert: int, share: float) -> None:
        super().__init__(url)
        self._insert, self._share, self._count = insert, share, 0

    @override
    def insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        if self._count == self._insert:
            part = round(len(columns["offset"]) * self._share)
            super().insert(table, {name: column[:part] for name, column in columns.items()})
            raise CutError
        self._count += 1
        super().insert(table, columns)


def _events(topic: str, number: int) -> bytes:
    at = (0, number)
    made: dict[str, msgspec.Struct] = {
        "vitals.v1": hospital.vitals(at, [0, 1, 1]),
        "receipts.v1": hospital.receipt(at, [Fate.VITALS, Fate.DEAD]),
        "predictions.v1": hospital.predictions(0, range(number, number + 3)),
        "alerts.v1": hospital.alert(0, number),
        "patients.v1": hospital.patient(number),
        "identity.v1": hospital.identity(number),
        "dlq.v1": hospital.dead_letter(at, 1),
    }
    if topic in EXAMPLES:
        return EXAMPLES[topic][number % len(EXAMPLES[topic])]
    return CODEC.encode(made[topic]) if topic in made else b"never to be seen here"


def _records(
    count: int,
    start: int = 0,
    *,
    topics: Collection[str] = tuple(SOURCES),
    partitions: Collection[int] = (0, 1),
) -> list[Record]:
    """With gaps in the offsets, across the end of a month."""
    return [
        Record(
            topic,
            partition,
            number * 2,
            FEBRUARY + number,
            b"name of a person" if SOURCES[topic].phi else b"key",
            _events(topic, number),
            (("ingest_id", f"{number}".encode()), ("empty", None)),
        )
        for number in range(start, start + count)
        for topic in topics
        for partition in partitions
    ]


def _recorder(store: ClickHouse) -> Recorder:
    known = heads(store)
    held = held_beyond(store, CHAINS, known)
    return Recorder("cluster", SOURCES, heads=known, held=held, decode=CODEC.decode)


def _live(store: ClickHouse, records: list[Record], block: int) -> None:
    """One life: goes on where the store stands and writes block after block."""
    recorder, known = _recorder(store), heads(store)
    missing = [r for r in records if r.offset > _last(known, r)]
    for start in range(0, len(missing), block):
        recorder.add(missing[start : start + block])
        write(store, recorder.take())


def _last(known: Mapping[Any, Any], record: Record) -> int:
    head = known.get((SOURCES[record.topic].topic_id, record.partition))
    return head.offset if head else -1


def _everything(store: ClickHouse) -> dict[str, list[dict[str, Any]]]:
    """All stored columns of all tables, but for the clock of the store."""
    order = "topic, partition, offset"
    return {
        table: list(
            rows(
                store.query(
                    f"SELECT * {'EXCEPT recorded_at' if table == 'ledger' else ''} FROM {table}"
                    f" ORDER BY {order}{'' if table == 'ledger' else ', `index`'}"
                )
            )
        )
        for table in TABLE_NAMES
    }


def _verify(store: ClickHouse) -> Report:
    sources = list(SOURCES.values())
    return Verifier(store, sources, CODEC.decode, tell=lambda _, __: None).run()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_block_cut_off_at_any_insert_is_completed_and_nothing_is_there_twice(
    store: ClickHouse, address: Address, share: float
) -> None:
    records = _records(12)
    _live(store, records, 112)
    undisturbed = _everything(store)
    lives = 0
    for table in TABLE_NAMES:
        store.command(f"TRUNCATE TABLE {table}")
    for insert in range(len(TABLES) + 4):
        try:
            _live(Cut(address.url, insert=insert, share=share), records[: 80 + 8 * insert], 96)
        except CutError:
            lives += 1
    _live(store, records, 112)
    assert lives > len(TABLES), "the fault was planted at too few places"
    assert _everything(store) == undisturbed


def test_a_retried_block_inserts_only_what_is_missing(store: ClickHouse, address: Address) -> None:
    records = _records(4)
    with pytest.raises(CutError):
        _live(Cut(address.url, insert=3, share=0.5), records, len(records))
    assert heads(store) == {}
    before = {table: len(found) for table, found in _everything(store).items()}
    recorder = _recorder(store)
    recorder.add(records)
    block = recorder.take()
    write(store, block)
    assert sum(before.values()) > 0
    for table, found in _everything(store).items():
        sent = block.ledger if table == "ledger" else block.derived[table]
        # Of a table for which nothing came there are no columns.
        assert len(found) == before[table] + len(sent.get("offset", ()))
    assert _verify(store).findings == []


def test_a_chain_goes_on_over_lives_as_if_there_had_been_one(store: ClickHouse) -> None:
    _live(store, _records(5), 40)
    _live(store, _records(5, start=5), 40)
    report = _verify(store)
    assert report.findings == []
    assert report.records == 10 * len(CHAINS)
    assert {chain.records for chain in report.chains} == {10}


def test_no_block_of_two_months_can_leave_a_hole_below_a_head(store: ClickHouse) -> None:
    recorder = _recorder(store)
    recorder.add(_records(20))
    parts = recorder.take().ledger_parts()
    months = [{at >= FEBRUARY + 10 for at in part["timestamp"]} for part in parts]
    assert months == [{False}, {True}]
    assert [len(part["offset"]) for part in parts] == [10 * len(CHAINS)] * 2


def test_no_table_holds_a_value_or_a_key_of_the_phi_zone(store: ClickHouse) -> None:
    _live(store, _records(3), 48)
    for table, found in _everything(store).items():
        for row in found:
            text = repr(row)
            assert "never to be seen" not in text, table
            assert "name of a person" not in text, table


def test_packed_columns_are_unpacked_when_asked(store: ClickHouse) -> None:
    _live(store, _records(1), 48)
    found = store.query(
        "SELECT entry_numbers, variable_names, reading_values, reading_flags FROM vitals LIMIT 1"
    )
    assert {name: list(column[0]) for name, column in found.items()} == {
        "entry_numbers": [0, 1, 1],
        "variable_names": list(VARIABLES[:3]),
        "reading_values": [60.0, 75.0, 90.0],
        "reading_flags": [0, 0, 0],
    }
    every = "'" + "', '".join(VARIABLES) + "'"
    asked = "SELECT default_expression AS it FROM system.columns WHERE name = 'variable_names'"
    assert every in store.query(asked)["it"][0]
    scored = store.query(
        "SELECT countIf(features_sha256 = SHA256(features)) AS hashed, count() AS all,"
        " sum(length(feature_values)) AS numbers, countIf(isNull(score)) AS unscored"
        " FROM predictions WHERE partition = 0"
    )
    assert scored == {"hashed": [3], "all": [3], "numbers": [80], "unscored": [1]}


class Attack(NamedTuple):
    """What is done to chain `partition` of alerts.v1, and where it must be found."""

    name: str
    statements: str
    offset: int
    sequence: int
    what: str


ATTACKS = [
    Attack(
        "value",
        "ALTER TABLE ledger UPDATE value = 'forged' WHERE {row}",
        4,
        2,
        "length or sha256 is not that of the value; leaf is not that of the record",
    ),
    Attack(
        "value and its hash",
        "ALTER TABLE ledger UPDATE value = 'forged', length = 6, sha256 = SHA256('forged')"
        " WHERE {row}",
        4,
        2,
        "leaf is not that of the record; chain does not follow",
    ),
    Attack("key", "ALTER TABLE ledger UPDATE key = 'other' WHERE {row}", 4, 2, "leaf is not"),
    Attack(
        "header",
        "ALTER TABLE ledger UPDATE header_values = ['7', NULL] WHERE {row}",
        4,
        2,
        "leaf is not",
    ),
    Attack(
        "timestamp type",
        "ALTER TABLE ledger UPDATE timestamp_type = 2 WHERE {row}",
        4,
        2,
        "leaf is not",
    ),
    Attack(
        "cluster",
        "ALTER TABLE ledger UPDATE cluster_id = 'another site' WHERE {row}",
        4,
        2,
        "leaf is not",
    ),
    Attack(
        "trace id",
        "ALTER TABLE ledger UPDATE trace_id = 'abc' WHERE {row}",
        4,
        2,
        "trace_id is not that of the header",
    ),
    Attack(
        "leaf", "ALTER TABLE ledger UPDATE leaf = reverse(leaf) WHERE {row}", 4, 2, "leaf is not"
    ),
    Attack(
        "chain",
        "ALTER TABLE ledger UPDATE chain = reverse(chain) WHERE {row}",
        4,
        2,
        "chain does not follow from the record before",
    ),
    Attack("delete", "ALTER TABLE ledger DELETE WHERE {row}", 6, 3, "sequence 2 is expected"),
    Attack("delete the first", "ALTER TABLE ledger DELETE WHERE {first}", 2, 1, "sequence 0 is"),
    Attack(
        "delete and renumber",
        "ALTER TABLE ledger DELETE WHERE {row};"
        "ALTER TABLE ledger UPDATE sequence = sequence - 1 WHERE {later}",
        6,
        2,
        "chain does not follow from the record before",
    ),
    Attack(
        "duplicate",
        "INSERT INTO ledger SELECT * FROM ledger WHERE {row}",
        4,
        2,
        "the offset is there twice; sequence 3 is expected",
    ),
    Attack(
        "renumber",
        "ALTER TABLE ledger UPDATE sequence = sequence + 1 WHERE {row} OR {later}",
        4,
        3,
        "sequence 2 is expected",
    ),
    Attack(
        "swap",
        "INSERT INTO ledger SELECT * REPLACE (6 AS offset)"
        " FROM (SELECT * FROM ledger WHERE {row});"
        "INSERT INTO ledger SELECT * REPLACE (4 AS offset)"
        " FROM (SELECT * FROM ledger WHERE {next} AND sequence = 3);"
        "ALTER TABLE ledger DELETE WHERE {row} AND sequence = 2;"
        "ALTER TABLE ledger DELETE WHERE {next} AND sequence = 3",
        4,
        3,
        "sequence 2 is expected; leaf is not that of the record",
    ),
    Attack(
        "forged record",
        "INSERT INTO ledger SELECT * REPLACE (5 AS offset, 3 AS sequence)"
        " FROM (SELECT * FROM ledger WHERE {row})",
        5,
        3,
        "leaf is not that of the record",
    ),
    Attack(
        "swap with another partition",
        "ALTER TABLE ledger DELETE WHERE {row};"
        "INSERT INTO ledger SELECT * REPLACE ({partition} AS partition)"
        " FROM (SELECT * FROM ledger WHERE topic = 'alerts.v1' AND partition = 99 AND offset = 4)",
        4,
        2,
        "leaf is not that of the record; chain does not follow",
    ),
]


@pytest.fixture(scope="module")
def attacked(clickhouse: tuple[str, int]) -> Iterator[Report]:
    """Every attack on a chain of its own, then one proof."""
    with _database(clickhouse) as address, pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.audit.verify.SHOWN", 1000)
        store = _migrated(address)
        chains = [*range(len(ATTACKS)), 99]
        _live(store, _records(5, topics=["alerts.v1"], partitions=chains), 100)
        for partition, attack in enumerate(ATTACKS):
            chain = f"topic = 'alerts.v1' AND partition = {partition}"
            places = {
                "row": f"({chain} AND offset = 4)",
                "next": f"({chain} AND offset = 6)",
                "first": f"({chain} AND offset = 0)",
                "later": f"({chain} AND offset > 4)",
                "partition": str(partition),
            }
            for statement in attack.statements.format(**places).split(";"):
                _change(store, statement)
        yield _verify(store)
        store.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_record_that_was_tampered_with_is_found_and_named(
    attacked: Report, attack: Attack
) -> None:
    partition = ATTACKS.index(attack)
    found = [f for f in attacked.findings if f.table == "ledger" and f.partition == partition]
    first = found[0]
    assert first.topic == "alerts.v1"
    assert (first.offset, min(f.offset for f in found)) == (attack.offset, attack.offset)
    assert any(f.sequence == attack.sequence and attack.what in f.what for f in found), found


def test_a_chain_beside_those_that_were_tampered_with_is_sound(attacked: Report) -> None:
    sound = [chain.partition for chain in attacked.chains if chain.sound]
    assert sound == [99]


def _change(store: ClickHouse, statement: str) -> None:
    if statement.startswith("ALTER"):
        statement += " SETTINGS mutations_sync = 2"
    store.command(statement)


DERIVED = [table for table in TABLES if table != "dead_letters"]
EDITED = {
    "alert_severities": "severity",
    "patients": "updated_at",
    "labels": "before_label",
    "measurements": "revision",
    "signals": "start",
    "changes": "content_length",
}


def test_a_derived_row_that_was_tampered_with_is_found_and_named(
    store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audit.verify.SHOWN", 1000)
    _live(store, _records(5), 80)
    expected = set()
    for table in DERIVED:
        edited = EDITED.get(table, "accepted_at")
        place = "partition = 1 AND `index` = 0 AND offset ="
        _change(store, f"ALTER TABLE {table} UPDATE {edited} = {edited} + 1 WHERE {place} 2")
        _change(store, f"ALTER TABLE {table} DELETE WHERE {place} 4")
        _change(store, f"INSERT INTO {table} SELECT * FROM {table} WHERE {place} 6")
        expected |= {
            (table, 2, f"not as in the ledger: {edited}"),
            (table, 4, "the row is missing"),
            (table, 6, "the row is there twice"),
        }
    found = _verify(store).findings
    assert {(f.table, f.offset, f.what) for f in found} == expected
    assert {(f.partition, f.index) for f in found} == {(1, 0)}


def test_the_features_score_and_decision_of_a_prediction_are_held_against_the_ledger(
    store: ClickHouse,
) -> None:
    _live(store, _records(2, topics=["predictions.v1"]), 4)
    for column, value in (
        ("features", "concat(substring(features, 1, 159), 'x')"),
        ("score", "score + 0.0001"),
        ("decision", "'raised'"),
    ):
        _change(
            store,
            f"ALTER TABLE predictions UPDATE {column} = {value}"
            " WHERE partition = 0 AND offset = 2 AND disposition = 'scored'",
        )
        findings = _verify(store).findings
        assert findings
        assert all(f.what.startswith("not as in the ledger") for f in findings)
        assert all(column in f.what for f in findings)


def test_a_derived_row_without_record_is_found_beyond_the_end_and_in_an_unknown_chain(
    store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audit.verify.IN_FLIGHT_S", 0.0)
    _live(store, _records(2), 32)
    for change in ("99 AS offset", "'ff' AS topic_id"):
        _change(
            store,
            f"INSERT INTO alerts SELECT * REPLACE ({change}) FROM"
            " (SELECT * FROM alerts WHERE partition = 0 AND offset = 2 AND topic_id != 'ff')",
        )
    found = _verify(store).findings
    assert sorted(f.offset for f in found) == [2, 99]
    assert {(f.table, f.what) for f in found} == {("alerts", "the ledger has no such record")}


def test_a_truncated_tail_is_not_seen_and_the_report_says_so(store: ClickHouse) -> None:
    _live(store, _records(3), 48)
    for table in ("ledger", "alerts", "alert_severities"):
        _change(store, f"ALTER TABLE {table} DELETE WHERE topic = 'alerts.v1' AND offset = 4")
    report = _verify(store)
    assert report.findings == []
    assert any("truncated tail" in gap for gap in report.not_covered)


def test_pages_of_a_chain_meet_without_gap_even_at_a_duplicate(
    store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audit.verify.PAGE_ROWS", 3)
    _live(store, _records(11, topics=["fhir.raw.v1", "alerts.v1"]), 44)
    report = _verify(store)
    assert (report.records, report.findings) == (44, [])
    _change(
        store,
        "INSERT INTO ledger SELECT * FROM ledger"
        " WHERE topic = 'fhir.raw.v1' AND partition = 0 AND offset = 4",
    )
    assert [(f.offset, f.what[:25]) for f in _verify(store).findings] == [
        (4, "the offset is there twice")
    ]


def test_migrations_are_applied_once_and_never_changed(store: ClickHouse) -> None:
    migrations = read_migrations()
    assert [m.version for m in migrations] == list(range(1, len(migrations) + 1))
    assert pending(store, migrations) == []
    edited = msgspec.structs.replace(migrations[0], text=migrations[0].text + "\n")
    with pytest.raises(CommandError, match="changed after it had been applied"):
        pending(store, [edited, *migrations[1:]])
    with pytest.raises(CommandError, match="schema version"):
        pending(store, migrations[:1])


def test_an_interrupted_migration_is_run_again(address: Address) -> None:
    store, migrations = ClickHouse(address.url), read_migrations()
    store.command(migrations[0].statements()[0])
    assert pending(store, migrations) == migrations
    apply(store, migrations)
    assert pending(store, migrations) == []


def test_a_table_that_is_missing_stops_the_writer(address: Address) -> None:
    with pytest.raises(Stop, match="vigil ledger migrate"):
        ClickHouse(address.url).insert("ledger", {"topic": ["alerts.v1"]})


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO alerts SELECT * FROM alerts",
        "ALTER TABLE alerts DELETE WHERE 1",
        "ALTER TABLE ledger UPDATE value = '' WHERE 1",
        "TRUNCATE TABLE ledger",
        "DROP TABLE ledger",
        "CREATE TABLE mine (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE mine (a Int8)",
        "OPTIMIZE TABLE ledger FINAL",
        "SET readonly = 0",
        "SYSTEM STOP MERGES",
        "KILL QUERY WHERE 1",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1; DROP TABLE ledger",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "INSERT INTO FUNCTION file('here.csv', 'CSV', 'a Int8') VALUES (1)",
        "/* SELECT */ DROP TABLE ledger",
        "WITH 1 AS x INSERT INTO alerts SELECT * FROM alerts",
    ],
)
def test_sql_refuses_whatever_is_no_question(asked: ClickHouse, statement: str) -> None:
    before = _everything(asked)
    with pytest.raises((CommandError, Rejected)):
        ask(asked, statement)
    assert _everything(asked) == before


@pytest.mark.parametrize("space", [" ", "\n", "/**/"])
def test_sql_writes_no_file(asked: ClickHouse, tmp_path: Path, space: str) -> None:
    path = tmp_path / "answer"
    with pytest.raises(CommandError, match="OUTFILE"):
        ask(asked, f"SELECT 1 INTO{space}OUTFILE '{path}'")
    assert not path.exists()


def test_sql_answers_questions(asked: ClickHouse) -> None:
    assert ask(asked, "SELECT count() AS n FROM ledger") == {"n": [len(CHAINS)]}
    assert ask(asked, "WITH 2 AS x SELECT x, ' into outfile ' AS y")["y"] == [" into outfile "]
    assert "ledger" in ask(asked, "SHOW TABLES")["name"]
    assert "topic" in ask(asked, "DESCRIBE TABLE ledger")["name"]


def test_an_insert_is_sent_once_though_the_connection_ends_before_the_answer(
    clickhouse: tuple[str, int], store: ClickHouse, address: Address
) -> None:
    """In between stands a line that carries requests over, and loses the answer to an insert."""
    with _Line(clickhouse) as line:
        door = ClickHouse(f"http://127.0.0.1:{line.port}/{address.database}")
        with pytest.raises(Retry):
            door.insert("schema_version", {"version": [9], "name": ["x"], "sha256": ["x"]})
    found = store.query("SELECT count() AS n FROM schema_version WHERE version = 9")
    assert found == {"n": [1]}


def test_an_insert_whose_sender_died_before_its_turn_is_not_carried_out(
    clickhouse: tuple[str, int], store: ClickHouse, address: Address
) -> None:
    busy = ClickHouse(address.url)
    thread = threading.Thread(target=busy.query, args=("SELECT sleepEachRow(1) FROM numbers(2)",))
    thread.start()
    while _answers_soon(clickhouse):
        assert thread.is_alive(), "the engine was never busy"
    body = b"INSERT INTO schema_version (version, name, sha256) FORMAT TabSeparated\n9\tx\tx\n"
    head = f"POST /?database={address.database} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
    with socket.create_connection(clickhouse) as dying:
        dying.sendall(head.encode() + b"\r\n\r\n" + body)
    thread.join()
    found = store.query("SELECT count() AS n FROM schema_version WHERE version = 9")
    assert found == {"n": [0]}
    busy.close()


def _answers_soon(clickhouse: tuple[str, int]) -> bool:
    with socket.create_connection(clickhouse) as probe:
        probe.settimeout(0.3)
        probe.sendall(b"GET /?query=SELECT%201 HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return bool(probe.recv(1))
        except TimeoutError:
            return False


class _Line:
    """Carries bytes both ways until an insert was answered; that answer it drops."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server, self._inserted = server, False
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._server) as far:
            back = threading.Thread(target=self._answer, args=(near, far), daemon=True)
            back.start()
            while data := near.recv(1 << 20):
                self._inserted = self._inserted or b"INSERT INTO" in data
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
            back.join()

    def _answer(self, near: socket.socket, far: socket.socket) -> None:
        while data := far.recv(1 << 20):
            if self._inserted:
                near.shutdown(socket.SHUT_RDWR)
                return
            near.sendall(data)


def test_findings_name_places_and_never_values() -> None:
    assert set(Finding.__struct_fields__) == {
        "table", "topic", "partition", "offset", "sequence", "index", "what",
    }  # fmt: skip
