"""The ClickHouse engine inside this process: one owner of a data folder, one query at a time."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chdb import session as chdb_session

from services.local.home import REPO
from services.local.statement import Statement

SETTINGS: Final = REPO / "infra" / "clickhouse" / "merges.xml"
"""What the server of docker-compose.yml is told too."""
CODE: Final = re.compile(r"Code: (\d+)\.")
# Embedded, the engine takes a bare expression for a query; a server does not.
AS_A_SERVER: Final = {"implicit_select": "0"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the engine returned: the body in the format asked for, and how much it moved."""

    body: bytes
    rows_read: int
    rows_written: int


class EngineError(Exception):
    """The engine refused.

    Args:
        text: ClickHouse's own message, from `Code: ` on.
    """

    def __init__(self, text: str) -> None:
        found = CODE.search(text)
        super().__init__(text[found.start() :] if found else text)
        self.code = int(found[1]) if found else 1002  # UNKNOWN_EXCEPTION


class Engine:
    """Tables under one folder, which no other process may open at the same time.

    Args:
        data: the folder; made when missing.

    Raises:
        EngineError: another process holds the folder, or it cannot be read.
    """

    def __init__(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self._data = str(data)
        self._lock = threading.Lock()
        self._root = _opened(self._data)  # keeps the engine alive between requests

    @property
    def version(self) -> str:
        """Of ClickHouse."""
        return self._ask("SELECT version()")

    def run(self, statement: Statement, wanted: Callable[[], bool]) -> Answer:
        """Waits for its turn, then runs; settings and database end with the call.

        Args:
            statement: what to run.
            wanted: asked when its turn has come: false leaves it undone.

        Raises:
            EngineError: the engine refused the query or the rows, or nobody waits any more.
        """
        with self._lock:
            # A writer that died while its insert waited here must not write after its next life
            # has looked at what the store holds: the rows would be there twice.
            if not wanted():
                raise EngineError("Code: 394. DB::Exception: Query was cancelled: its client left")
            session = _opened(self._data)
            try:
                return _run(session, statement)
            except RuntimeError as error:
                raise EngineError(str(error)) from error
            finally:
                session.close()

    def close(self) -> None:
        """Waits for the query that runs, then gives the folder back."""
        with self._lock:
            self._root.close()

    def _ask(self, query: str) -> str:
        with self._lock:
            return _bytes(self._root.query(query, "TabSeparated")).decode().strip()


def _opened(data: str) -> Any:
    try:
        return chdb_session.Session(f"{data}?config-file={SETTINGS}")  # type: ignore[no-untyped-call]  # chdb has no types here
    except RuntimeError as error:
        raise EngineError(str(error)) from error


def _run(session: Any, statement: Statement) -> Answer:
    if statement.database:
        session.query(f"USE {_quoted(statement.database, '`')}")
    session.query(_set({**AS_A_SERVER, **statement.settings}))
    if statement.rows is not None:
        return _insert(session, statement.query, statement.rows, statement.format)
    found = session.query(statement.query, statement.format, params=dict(statement.parameters))
    return Answer(
        body=_bytes(found), rows_read=found.rows_read(), rows_written=found.rows_written()
    )


def _insert(session: Any, query: bytes, rows: bytes, fmt: str) -> Answer:
    with session.send_insert(query.decode(), fmt) as inserter:
        if rows:
            inserter.append(rows)
        written = inserter.finish().rows_written
    return Answer(body=b"", rows_read=written, rows_written=written)


def _set(settings: Mapping[str, str]) -> str:
    # readonly last: it forbids every other setting after it.
    names = sorted(settings, key=lambda name: name == "readonly")
    return "SET " + ", ".join(
        f"{_quoted(n, '`')} = {_quoted(settings[n], chr(39))}" for n in names
    )


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


def _bytes(found: Any) -> bytes:
    return bytes(found.bytes())
