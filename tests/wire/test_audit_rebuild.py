"""A table that came later gets the rows of old records from the ledger, in the real engine."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import alert_path as hospital
import fastavro
import msgspec
import pytest
from typer.testing import CliRunner
from typing_extensions import override

from services.audit.migrate import apply, pending, read_migrations
from services.audit.pipeline import alone
from services.audit.rebuild import lacking, rebuild
from services.audit.recorder import Recorder, Source
from services.audit.rows import TABLES
from services.audit.verify import Report, Verifier, rows
from services.audit.writer import heads, held_beyond, write
from services.cli.filling import fill_after
from services.cli.main import app
from services.core.errors import Retry
from services.core.events import Alert, Step
from services.local.home import REPO
from services.runtime.clickhouse import ClickHouse
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
    if topic.topic in {"alerts.v1", "predictions.v1", "dlq.v1"}
}
CHAINS = {(source.topic_id, p): topic for topic, source in SOURCES.items() for p in (0, 1)}
NEW = "alert_severities"
REBUILT = {"schema": "vigil.ledger.rebuild/1"}
FEBRUARY = 1_772_323_199_990  # ms; ten records later it is March
STEPS = [Step.RAISED, Step.ESCALATED, Step.ESCALATED, Step.CLEARED]


class Before(ClickHouse):
    """The door of a program that does not know the new table."""

    @override
    def insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        if table != NEW:
            super().insert(table, columns)

    @override
    def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        formats: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Sequence[Any]]:
        if f"FROM {NEW} " in statement:
            return {"topic_id": [], "partition": [], "offset": [], "index": []}
        return super().query(statement, parameters, formats=formats, settings=settings)


class Shut(ClickHouse):
    """Closes after some inserts."""

    def __init__(self, url: str, inserts: int) -> None:
        super().__init__(url)
        self._left = inserts

    @override
    def insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        if not self._left:
            raise Retry("shut")
        self._left -= 1
        super().insert(table, columns)


class Busy(ClickHouse):
    """Something happens after each answer."""

    def __init__(self, url: str, happens: Callable[[], None]) -> None:
        super().__init__(url)
        self._happens = happens

    @override
    def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        formats: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Sequence[Any]]:
        found = super().query(statement, parameters, formats=formats, settings=settings)
        self._happens()
        return found


@pytest.fixture
def url(clickhouse: tuple[str, int]) -> Iterator[str]:
    """Of a database as the version before the new table left it, with records of two months."""
    root, name = ClickHouse(f"http://{clickhouse[0]}:{clickhouse[1]}"), f"test_{uuid4().hex}"
    root.command(f"CREATE DATABASE {name}")
    url = f"http://{clickhouse[0]}:{clickhouse[1]}/{name}"
    door = Before(url)
    apply(door, [m for m in read_migrations() if NEW not in m.text])
    _live(door, _records(range(20)))
    door.close()
    yield url
    root.command(f"DROP DATABASE {name}")
    root.close()


@pytest.fixture
def store(url: str) -> Iterator[ClickHouse]:
    """The same after `vigil ledger migrate`, with records that this version wrote."""
    door = ClickHouse(url)
    apply(door, pending(door, read_migrations()))
    _live(door, _records(range(20, 30)))
    yield door
    door.close()


def _alert(partition: int, number: int) -> Alert:
    told = hospital.alert(partition, number - number % len(STEPS))
    return msgspec.structs.replace(
        told,
        step=STEPS[number % len(STEPS)],
        severity=number * 7 % 5,
        unit=("MICU", "WARD")[number % 2],
    )


def _before_severity(alert: Alert) -> bytes:
    """Write an alert by the schema of the time before severity."""
    [schema] = [
        schema
        for path in (REPO / "schemas" / "history").glob("*.avsc")
        if (schema := msgspec.json.decode(path.read_bytes()))["name"] == "Alert"
        and "severity" not in {field["name"] for field in schema["fields"]}
    ]
    print_ = fastavro.schema.fingerprint(
        fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO"
    )
    body = BytesIO()
    fastavro.schemaless_writer(body, schema, msgspec.to_builtins(alert, builtin_types=(bytes,)))
    return b"\xc3\x01" + bytes.fromhex(print_) + body.getvalue()


def _value(topic: str, partition: int, number: int) -> bytes | None:
    if topic == "alerts.v1":
        if number % 9 == 4:
            return None
        if number % 9 == 5:
            return b"no alert"
        made = _alert(partition, number)
        return _before_severity(made) if number < 4 else CODEC.encode(made)
    if topic == "predictions.v1":
        return CODEC.encode(hospital.predictions(partition, range(number, number + 3)))
    return CODEC.encode(hospital.dead_letter((partition, number), 1))


def _records(numbers: Iterable[int], topics: Iterable[str] = tuple(SOURCES)) -> list[Record]:
    return [
        Record(topic, partition, 2 * n, FEBRUARY + n, b"key", _value(topic, partition, n))
        for n in numbers
        for topic in topics
        for partition in (0, 1)
    ]


def _live(store: ClickHouse, records: list[Record]) -> None:
    known = heads(store)
    held = held_beyond(store, CHAINS, known)
    recorder = Recorder("cluster", SOURCES, heads=known, held=held, decode=CODEC.decode)
    recorder.add(records)
    write(store, recorder.take())


def _rebuild(store: ClickHouse) -> dict[str, int]:
    return dict(rebuild(store, SOURCES, CODEC.decode))


def _verify(store: ClickHouse) -> Report:
    return Verifier(store, list(SOURCES.values()), CODEC.decode, tell=lambda *_: None).run()


def _everything(store: ClickHouse) -> dict[str, list[dict[str, Any]]]:
    asked = {table: f"SELECT * FROM {table} ORDER BY topic, partition, offset" for table in TABLES}
    asked = {table: f"{question}, `index`" for table, question in asked.items()}
    asked["ledger"] = "SELECT * FROM ledger ORDER BY topic, partition, offset"
    return {table: list(rows(store.query(question))) for table, question in asked.items()}


def _told(store: ClickHouse) -> list[tuple[Any, ...]]:
    """What the ledger's records say of severity, read by nothing of the code under test."""
    found = store.query(
        "SELECT partition, offset, value FROM ledger"
        " WHERE topic = 'alerts.v1' AND value IS NOT NULL ORDER BY partition, offset",
        formats={"value": "bytes"},
    )
    records = zip(found["partition"], found["offset"], found["value"], strict=True)
    alerts = [(p, o, CODEC.decode(v, Alert)) for p, o, v in records if v != b"no alert"]
    return [(p, o, a.alert_id, str(a.step), a.severity, a.unit) for p, o, a in alerts]


def _stored(store: ClickHouse) -> list[tuple[Any, ...]]:
    found = store.query(
        f"SELECT partition, offset, alert_id, step, severity, unit FROM {NEW}"
        " ORDER BY partition, offset"
    )
    return list(zip(*found.values(), strict=True))


def test_old_and_new_records_have_the_severity_that_the_ledger_tells(store: ClickHouse) -> None:
    assert {p.offset for p in _verify(store).findings} < {2 * n for n in range(20)}
    got = _rebuild(store)
    told = _told(store)
    assert _stored(store) == told
    assert len({severity for *_, severity, _ in told}) == 5
    assert got == {NEW: sum(offset < 40 for _, offset, *_ in told)}
    report = _verify(store)
    assert (report.findings, report.derived_rows[NEW]) == ([], len(told))


def test_to_rebuild_again_changes_nothing(store: ClickHouse) -> None:
    _rebuild(store)
    once = _everything(store)
    assert _rebuild(store) == {}
    assert _everything(store) == once
    unreadable = [offset for lack in lacking(store, SOURCES) for offset in lack.tables[NEW]]
    assert sorted({*unreadable}) == [2 * n for n in range(30) if n % 9 == 5]


def test_to_rebuild_changes_no_row_and_no_other_table(store: ClickHouse) -> None:
    before = _everything(store)
    _rebuild(store)
    after = _everything(store)
    assert before.pop(NEW) == [row for row in after.pop(NEW) if row["offset"] >= 40]
    assert after == before


@pytest.mark.parametrize("inserts", [0, 1])
def test_whoever_is_cut_off_begins_again_and_appends_the_rest(
    store: ClickHouse, url: str, inserts: int
) -> None:
    with pytest.raises(Retry, match="shut"):
        rebuild(Shut(url, inserts), SOURCES, CODEC.decode)
    _rebuild(store)
    assert _stored(store) == _told(store)
    assert _verify(store).findings == []


def test_while_the_audit_service_writes_nothing_is_there_twice(
    store: ClickHouse, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each answer that the rebuilding gets, more records come in."""
    monkeypatch.setattr("services.audit.rebuild.PAGE", 3)
    monkeypatch.setattr("services.audit.rebuild.BATCH", 2)
    coming = iter(range(30, 40))

    def more() -> None:
        if records := _records(islice(coming, 1), ["alerts.v1"]):
            _live(store, records)

    _rebuild(Busy(url, more))
    assert next(coming, None) is None, "the rebuilding was over before they came"
    assert _stored(store) == _told(store)
    assert _verify(store).findings == []


def test_rows_that_somebody_removed_come_back(store: ClickHouse) -> None:
    _rebuild(store)
    whole = _everything(store)
    for table in ("alerts", "predictions", NEW):
        store.command(f"ALTER TABLE {table} DELETE WHERE offset = 6 SETTINGS mutations_sync = 2")
    assert _verify(store).findings
    assert _rebuild(store) == {"alerts": 2, "predictions": 6, NEW: 2}
    assert _everything(store) == whole


def test_the_commands_fill_what_a_new_table_lacks(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CLICKHOUSE_URL", url), ("VIGIL_HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VIGIL_SCHEMAS", str(REPO / "schemas"))
    door = ClickHouse(url)

    def vigil(*words: str) -> Any:
        done = CliRunner().invoke(app, ["ledger", *words, "--json"])
        assert (done.exit_code, done.stderr) == (0, "")
        return msgspec.json.decode(done.stdout)

    assert vigil("migrate", "--yes")["applied"] == ["0006_alert_severities.sql"]
    assert _stored(door) == _told(door)
    left = {"alerts": 4, NEW: 4}
    assert vigil("rebuild", "--yes") == {**REBUILT, "without": left, "rows": {}}
    door.command(f"ALTER TABLE {NEW} DELETE WHERE offset = 6 SETTINGS mutations_sync = 2")
    more = {"alerts": 4, NEW: 6}
    assert vigil("rebuild", "--dry-run") == {**REBUILT, "without": more, "rows": {}}
    assert vigil("rebuild", "--yes") == {**REBUILT, "without": more, "rows": {NEW: 2}}
    assert _stored(door) == _told(door)
    door.close()


def test_a_user_who_may_only_make_tables_is_told_who_fills_them(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIGIL_HOME", str(tmp_path))
    monkeypatch.setenv("VIGIL_SCHEMAS", str(REPO / "schemas"))
    door = Shut(url, 0)
    apply(ClickHouse(url), applied := pending(door, read_migrations()))
    fill_after(door, applied)
    assert "`vigil ledger rebuild` as the user of the audit service" in capsys.readouterr().err
    fill_after(door, [])
    assert capsys.readouterr().err == ""


def test_two_processes_of_a_machine_do_not_rebuild_at_once(tmp_path: Path) -> None:
    with (
        alone(tmp_path, "rebuild"),
        pytest.raises(Retry, match=r"rebuild\.lock"),
        alone(tmp_path, "rebuild"),
    ):
        pass
