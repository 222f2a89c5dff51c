"""The one door to ClickHouse: blocks of columns in, columns out, over its HTTP interface."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.driver.exceptions import ClickHouseError
from typing_extensions import override
from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.exceptions import HTTPError

from services.core.errors import Retry, Stop, VigilError

Columns = Mapping[str, Sequence[Any]]
"""Rows as columns of equal length, by name."""

CONNECT_S: Final = 5.0
SCHEMA_CODES: Final = frozenset({10, 16, 53, 60, 81})
"""ClickHouse's codes for a column, type, table or database that is not as the writer thinks."""
DURABLE: Final = {"async_insert": 0, "max_insert_threads": 1}
"""An insert is answered when its rows are in, and they go in as one, in their order."""
_CODE: Final = re.compile(r"[Cc]ode: (\d+)")
_PROGRESS: Final = "x-clickhouse-progress"


class Rejected(Retry):
    """ClickHouse refused a statement.

    Args:
        code: ClickHouse's number of the error; 0 when it gave none.
        text: ClickHouse's own words, which may quote data: for the person who typed the
            statement, never for a log.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"ClickHouse refused a statement (code {code})")
        self.code = code
        self.text = text


class ClickHouse:
    """One connection to one database; for one thread at a time.

    Every method blocks until the answer is in, at most `timeout_s`, and is tried once: an answer
    that got lost says nothing about what was done, so the caller must look before it repeats.
    """

    def __init__(
        self, url: str, *, user: str = "", password: str = "", timeout_s: float = 60.0
    ) -> None:
        """Connect.

        Args:
            url: `http[s]://[user[:password]@]host[:port][/database]`.
            user: when the URL names none.
            password: when the URL names none.
            timeout_s: how long a statement may take.

        Raises:
            Retry: nobody answers at this address.
            Rejected: the server answers and refuses the user or the database.
        """
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self._types: dict[str, dict[str, ClickHouseType]] = {}
        try:
            self._client = clickhouse_connect.get_client(
                host=parts.hostname or "127.0.0.1",
                port=parts.port or (8443 if secure else 8123),
                secure=secure,
                username=unquote(parts.username or user) or None,
                password=unquote(parts.password or password),
                database=parts.path.strip("/") or "default",
                connect_timeout=int(CONNECT_S),
                send_receive_timeout=int(timeout_s),
                autogenerate_session_id=False,
                compress=False,
                query_retries=0,
                pool_mgr=_Once(),
            )
        except ClickHouseError as error:
            raise _rejected(error) from None

    def insert(self, table: str, columns: Columns) -> None:
        """Append rows; those of one partition of a table go in together or not at all.

        Args:
            table: of the connection's database.
            columns: of equal length; times as integers in the column's own unit.

        Raises:
            Retry: it is not known whether the rows went in, or there is no room for them now.
            Stop: the table is not what the writer thinks; `vigil ledger migrate` creates it.
        """
        if not columns or not len(next(iter(columns.values()))):
            return
        try:
            types = self._types_of(table)
            self._client.insert(
                table,
                list(columns.values()),
                column_names=list(columns),
                column_types=[types[name] for name in columns],
                column_oriented=True,
                settings=dict(DURABLE),
            )
        except (ClickHouseError, KeyError) as error:
            raise _not_inserted(table, error) from None

    def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        formats: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Sequence[Any]]:
        """Ask and take the whole answer, as columns by name.

        Args:
            statement: one statement; `{name:Type}` stands for a parameter.
            parameters: their values.
            formats: per column how to give it: `bytes` for a String, `int` for a time.
            settings: of the engine, for this statement alone.

        Raises:
            Retry: no answer.
            Rejected: ClickHouse refused.
        """
        try:
            answer = self._client.query(
                statement,
                parameters=dict(parameters or {}),
                column_formats=dict(formats or {}),
                settings=dict(settings or {}),
            )
        except ClickHouseError as error:
            raise _rejected(error) from None
        columns = zip(answer.column_names, answer.result_columns, strict=True)
        # An answer without rows comes without names: each column of it is empty.
        return defaultdict(list, columns)

    def command(self, statement: str) -> None:
        """Change something other than rows; raises as `query` does."""
        try:
            self._client.command(statement)
        except ClickHouseError as error:
            raise _rejected(error) from None

    def types_of(self, table: str) -> dict[str, str]:
        """Name the type of each stored column of a table; raises as `query` does."""
        found = self.query(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase()"
            " AND table = {table:String} AND default_kind NOT IN ('ALIAS', 'EPHEMERAL')"
            " ORDER BY position",
            {"table": table},
        )
        return dict(zip(found.get("name", ()), found.get("type", ()), strict=True))

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _types_of(self, table: str) -> dict[str, ClickHouseType]:
        if table not in self._types:
            context = self._client.create_insert_context(table)
            names, types = context.column_names, context.column_types
            self._types[table] = dict(zip(names, types, strict=True))
        return self._types[table]


class _Once(PoolManager):
    """Sends each request once.

    The client repeats an insert whose connection ended before the answer; the server may have
    carried it out, and the rows would be there twice.
    """

    @override
    def request(self, method: str, url: str, *args: Any, **options: Any) -> BaseHTTPResponse:
        options["retries"] = False
        try:
            answer = super().request(method, url, *args, **options)
        except HTTPError as error:
            raise Retry(f"ClickHouse: no answer ({type(error).__name__})") from None
        if answer.status == 200 and all(name.lower() == _PROGRESS for name in answer.headers):  # noqa: PLR2004 - HTTP's OK
            raise Retry("ClickHouse: the connection ended before the answer")
        return answer


def _rejected(error: ClickHouseError) -> Rejected:
    found = _CODE.search(str(error))
    return Rejected(int(found[1]) if found else 0, str(error))


def _not_inserted(table: str, error: ClickHouseError | KeyError) -> VigilError:
    code = 16 if isinstance(error, KeyError) else _rejected(error).code
    if code in SCHEMA_CODES:
        return Stop(f"ClickHouse: {table} lacks what is written; run `vigil ledger migrate`")
    return Retry(f"ClickHouse: rows for {table} were not taken (code {code})")
