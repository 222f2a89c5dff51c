"""How an HTTP request becomes a statement."""

import pytest

from services.local.statement import form, statement


@pytest.mark.parametrize(
    "query",
    [
        b"INSERT INTO t FORMAT Native\n",
        b"  insert into `db`.`t` (`a`, `format`) format Native\n",
        b"INSERT INTO t (a)\nSETTINGS max_threads = 1\nFORMAT Native\n",
        b"INSERT INTO t (`select`, `values`) FORMAT Native\n",
    ],
)
def test_rows_begin_after_the_line_of_the_format(query: bytes) -> None:
    # The first byte of these rows, the number of columns, is a newline.
    found = statement({}, query + b"\n\x00rows", read_only=False)
    assert found.rows == b"\n\x00rows"
    assert found.format == "Native"
    assert b"FORMAT" not in found.query.upper().replace(b"`FORMAT`", b"")


def test_a_query_in_the_url_goes_before_the_rows_in_the_body() -> None:
    found = statement({"query": "INSERT INTO t FORMAT CSV"}, b"1,2\n", read_only=False)
    assert (found.query, found.rows, found.format) == (b"INSERT INTO t", b"1,2\n", "CSV")


@pytest.mark.parametrize(
    "query",
    [
        b"INSERT INTO t VALUES (1, ' FORMAT Native\n')",
        b"INSERT INTO t SELECT 1 FORMAT Null\n",
        b"SELECT 'INSERT INTO t FORMAT Native\n'",
    ],
)
def test_a_query_that_brings_no_rows_is_left_whole(query: bytes) -> None:
    found = statement({}, query, read_only=False)
    assert (found.query, found.rows) == (query, None)


@pytest.mark.parametrize(
    ("query", "fields", "named"),
    [
        (b"SELECT 1", {}, "TabSeparated"),
        (b"SELECT 1", {"default_format": "CSV"}, "CSV"),
        (b"SELECT 1\n FORMAT Native", {"default_format": "CSV"}, "Native"),
        (b"SELECT 1 format JSON ;", {}, "JSON"),
        (b"SELECT 1 FORMAT JSON SETTINGS max_threads = 1", {}, "JSON"),
        (b"SELECT ' FORMAT X' AS a", {}, "TabSeparated"),
    ],
)
def test_the_format_of_the_answer_is_the_one_that_the_engine_will_use(
    query: bytes, fields: dict[str, str], named: str
) -> None:
    assert statement(fields, query, read_only=False).format == named


def test_fields_are_settings_parameters_or_neither() -> None:
    fields = {
        "database": "vigil",
        "query_id": "x",
        "session_id": "y",
        "client_protocol_version": "54405",
        "param_a": "1",
        "max_threads": "2",
    }
    found = statement(fields, b"SELECT {a:UInt8}", read_only=False)
    assert found.database == "vigil"
    assert found.parameters == {"a": "1"}
    assert found.settings == {"max_threads": "2"}


def test_a_get_is_read_only_unless_it_says_more() -> None:
    assert statement({}, b"SELECT 1", read_only=True).settings == {"readonly": "2"}
    asked = statement({"readonly": "1"}, b"SELECT 1", read_only=True)
    assert asked.settings == {"readonly": "1"}


def test_a_get_cannot_lift_its_own_limit() -> None:
    asked = statement({"readonly": "0"}, b"DROP TABLE t", read_only=True)
    assert asked.settings == {"readonly": "2"}


def test_a_form_gives_its_fields() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT {a:String}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="param_a"\r\n\r\nx\\ny \xc3\xa9\r\n--b--\r\n'
    )
    fields = form("multipart/form-data; boundary=b", body)
    assert fields == {"query": "SELECT {a:String}", "param_a": "x\\ny é"}
