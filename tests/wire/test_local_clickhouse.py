"""The ClickHouse interface of the local stack, through the ordinary client."""

import gzip
import http.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from services.local.engine import SETTINGS
from services.local.home import REPO

pytestmark = pytest.mark.wire
ENDS_S = 120.0
WHEN = datetime(2026, 3, 1, 8, 0, 0, 123000, tzinfo=UTC)
COLUMNS = ["n", "raw", "x", "at", "maybe", "word", "many"]
TABLE = (
    "CREATE TABLE t (n UInt64, raw String, x Float64, at DateTime64(3, 'UTC'),"
    " maybe Nullable(Float32), word LowCardinality(String), many Array(UInt8))"
    " ENGINE = MergeTree ORDER BY n"
)


@pytest.fixture
def database(clickhouse: tuple[str, int]) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    with _client(clickhouse) as client:
        client.command(f"CREATE DATABASE {name}")
        yield name
        client.command(f"DROP DATABASE {name}")


@pytest.fixture
def client(clickhouse: tuple[str, int], database: str) -> Iterator[Client]:
    with _client(clickhouse, database=database) as client:
        client.command(TABLE)
        yield client


@pytest.fixture
def table(client: Client) -> str:
    """The database in which the table t stands."""
    return str(client.database)


def _client(address: tuple[str, int], **options: Any) -> Client:
    return clickhouse_connect.get_client(
        host=address[0], port=address[1], tz_mode="aware", **options
    )


def _rows(count: int) -> list[list[object]]:
    return [
        [n, bytes([n % 256, 0, 255, 10]), n / 3, WHEN, None if n % 2 else 0.5, "word", [1, 2]]
        for n in range(count)
    ]


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd", "gzip"])
def test_rows_come_back_as_they_were_inserted(
    clickhouse: tuple[str, int], table: str, compression: str
) -> None:
    rows = _rows(1000)
    with _client(
        clickhouse, database=table, compress=compression if compression != "none" else False
    ) as writer:
        summary = writer.insert("t", rows, column_names=COLUMNS)
        assert summary.written_rows == 1000
        found = writer.query("SELECT * FROM t ORDER BY n", query_formats={"String": "bytes"})
    assert [list(row) for row in found.result_rows] == [
        [n, raw, x, at, maybe, b"word", many] for n, raw, x, at, maybe, _, many in rows
    ]


def test_a_table_of_nine_ten_thirteen_or_thirty_two_columns_takes_rows(client: Client) -> None:
    # These counts are white space when read as the first byte of a Native block.
    for width in (9, 10, 13, 32):
        columns = ", ".join(f"c{i} UInt8" for i in range(width))
        client.command(f"CREATE TABLE w{width} ({columns}) ENGINE = Memory")
        client.insert(f"w{width}", [[7] * width])
        found = client.query(f"SELECT * FROM w{width}")
        assert found.result_rows == [(7,) * width]


def test_parameters_arrive_as_they_were_given(client: Client) -> None:
    client.insert("t", _rows(300), column_names=COLUMNS)
    hostile = "x' OR 1=1 --\n\t\\é"
    row = client.query(
        "SELECT {text:String}, {n:UInt64}, {none:Nullable(String)}, {many:Array(UInt64)}",
        parameters={"text": hostile, "n": 5, "none": None, "many": [1, 2]},
    ).first_row
    assert row is not None
    assert list(row) == [hostile, 5, None, [1, 2]]


def test_parameters_too_many_for_a_url_arrive_in_a_form(client: Client) -> None:
    client.insert("t", _rows(300), column_names=COLUMNS)
    many = list(range(250, 30_000))
    query = "SELECT count() FROM t WHERE n IN {many:Array(UInt64)}"
    assert client.query(query, parameters={"many": many}).first_row == (50,)


def test_a_setting_holds_for_its_own_request_only(client: Client) -> None:
    query = "SELECT getSetting('max_block_size')"
    usual = client.command(query)
    assert client.command(query, settings={"max_block_size": 1234}) == 1234
    assert client.command(query) == usual


def test_parts_are_merged_as_on_the_server_of_containers(client: Client) -> None:
    [told] = ET.parse(SETTINGS).iter("merge_selector_base")  # noqa: S314 - a file of ours
    asked = "SELECT value FROM system.merge_tree_settings WHERE name = 'merge_selector_base'"
    assert client.query(asked).result_rows == [(told.text,)]
    compose = (REPO / "docker-compose.yml").read_text()
    assert f"./{SETTINGS.relative_to(REPO)}:/etc/clickhouse-server/config.d/" in compose


def test_read_only_is_read_only(client: Client) -> None:
    for forbidden in ("DROP TABLE t", "SET readonly = 0"):
        with pytest.raises(DatabaseError) as refused:
            client.command(forbidden, settings={"readonly": 1, "max_threads": 2})
        assert refused.value.code == 164
    assert client.query("SELECT 1", settings={"readonly": 1}).first_row == (1,)


def test_databases_are_separate(clickhouse: tuple[str, int], client: Client) -> None:
    client.insert("t", _rows(3), column_names=COLUMNS)
    with _client(clickhouse) as other, pytest.raises(DatabaseError) as refused:
        other.query("SELECT * FROM t")
    assert refused.value.code == 60


@pytest.mark.parametrize(
    ("query", "code", "name"),
    [
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELECT nothing FROM t", 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT toDateTime('x')", 41, "CANNOT_PARSE_DATETIME"),
        ("SELECT {n:UInt8}", 456, "UNKNOWN_QUERY_PARAMETER"),
    ],
)
def test_an_error_has_the_code_of_clickhouse(
    client: Client, query: str, code: int, name: str
) -> None:
    with pytest.raises(DatabaseError) as refused:
        client.query(query)
    assert (refused.value.code, refused.value.name) == (code, name)


def test_an_insert_that_is_cut_off_leaves_no_row_and_the_next_one_works(
    clickhouse: tuple[str, int], client: Client, database: str
) -> None:
    client.insert("t", _rows(10), column_names=COLUMNS)
    native = client.raw_query("SELECT * FROM t FORMAT Native")
    status, headers, body = _post(
        clickhouse, f"/?database={database}", b"INSERT INTO t FORMAT Native\n" + native[:-40]
    )
    assert status >= 400
    assert body.startswith(f"Code: {headers['X-ClickHouse-Exception-Code']}. DB::Exc".encode())
    assert client.command("SELECT count() FROM t") == 10
    client.insert("t", _rows(10), column_names=COLUMNS)
    assert client.command("SELECT count() FROM t") == 20


def test_the_status_of_an_error_says_whose_fault_it_is(clickhouse: tuple[str, int]) -> None:
    statuses = [
        _post(clickhouse, "/", query)[0]
        for query in (b"SELECT 1", b"SELECT * FROM nowhere", b"SELEC", b"SELECT throwIf(1)")
    ]
    assert statuses == [200, 404, 400, 500]


def test_a_get_changes_nothing(clickhouse: tuple[str, int], client: Client, database: str) -> None:
    connection = http.client.HTTPConnection(*clickhouse)
    connection.request("GET", f"/?database={database}&query=DROP%20TABLE%20t")
    assert connection.getresponse().status == 403
    connection.close()
    assert client.command("EXISTS TABLE t") == 1


def test_one_connection_carries_many_requests(clickhouse: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*clickhouse)
    for number in range(5):
        connection.request("POST", "/", body=b"SELECT %d" % number)
        assert connection.getresponse().read() == b"%d\n" % number
    connection.request("GET", "/ping")
    assert connection.getresponse().read() == b"Ok.\n"
    connection.close()


def test_a_page_in_a_browser_is_refused(clickhouse: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*clickhouse)
    connection.request("POST", "/", body=b"SELECT 1", headers={"Origin": "http://example.org"})
    assert connection.getresponse().status == 403
    connection.close()


def test_a_body_that_is_not_what_it_says_is_refused(clickhouse: tuple[str, int]) -> None:
    good = gzip.compress(b"SELECT 1")
    assert _post(clickhouse, "/", good, encoding="gzip")[::2] == (200, b"1\n")
    assert _post(clickhouse, "/", b"SELECT 1", encoding="gzip")[0] == 400
    assert _post(clickhouse, "/", good, encoding="rot13")[0] == 501


def test_many_clients_at_once_lose_no_row(
    clickhouse: tuple[str, int], client: Client, database: str
) -> None:
    def insert(start: int) -> None:
        with _client(clickhouse, database=database) as writer:
            for n in range(start, start + 10):
                writer.insert("t", [[n, b"", 0.0, WHEN, None, "", []]], column_names=COLUMNS)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(insert, range(0, 320, 10)))
    assert client.query("SELECT count(), uniqExact(n) FROM t").first_row == (320, 320)


def test_rows_survive_a_kill_of_the_server(engine: Callable[[Path], Any], tmp_path: Path) -> None:
    first = engine(tmp_path)
    with _client(first.ready()) as client:
        client.command("CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n")
        client.insert("kept", [[1], [2]])
    first.process.kill()
    first.process.wait()
    second = engine(tmp_path)
    with _client(second.ready()) as client:
        assert client.command("SELECT count() FROM kept") == 2
    second.process.terminate()
    assert second.process.wait(ENDS_S) == 0


def test_a_folder_has_one_owner(engine: Callable[[Path], Any], tmp_path: Path) -> None:
    first = engine(tmp_path)
    first.ready()
    second = engine(tmp_path)
    _, complaint = second.process.communicate(timeout=ENDS_S)
    assert second.process.returncode == 4
    assert "ClickHouse cannot start: " in complaint


def _post(
    address: tuple[str, int], path: str, body: bytes, *, encoding: str = ""
) -> tuple[int, Message, bytes]:
    connection = http.client.HTTPConnection(*address)
    connection.request("POST", path, body=body, headers={"Content-Encoding": encoding})
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found
