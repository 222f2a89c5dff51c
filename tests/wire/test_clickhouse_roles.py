"""The SQL for a server: the engine here can parse it; a server can be asked to obey it.

CLICKHOUSE_URL=http://admin:…@host:8123 opts in. The test makes a database of its own and takes it
away again; the roles stay.
"""

import os
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from services.audit.migrate import (
    FOLDER,
    VERSIONS,
    Migration,
    apply,
    on_cluster,
    read_migrations,
)
from services.runtime.clickhouse import ClickHouse

pytestmark = pytest.mark.wire
SERVER = os.environ.get("CLICKHOUSE_URL", "")
PASSWORD = secrets.token_hex(16)


def statements(name: str) -> list[str]:
    return Migration(version=0, name=name, text=(FOLDER / name).read_text()).statements()


@pytest.mark.parametrize("name", ["roles.sql", "replicated.sql"])
def test_the_engine_parses_every_statement(clickhouse: tuple[str, int], name: str) -> None:
    host, port = clickhouse
    with clickhouse_connect.get_client(host=host, port=port) as client:
        for text in statements(name):
            assert client.query("SELECT formatQuery({text:String})", {"text": text}).result_rows


def test_the_engine_parses_what_a_cluster_is_told(clickhouse: tuple[str, int]) -> None:
    host, port = clickhouse
    texts = [VERSIONS, *(s for m in read_migrations() for s in m.statements())]
    with clickhouse_connect.get_client(host=host, port=port) as client:
        for text in texts:
            [[seen]] = client.query(
                "SELECT formatQuerySingleLine({text:String})", {"text": on_cluster(text, "ward")}
            ).result_rows
            assert " ON CLUSTER ward" in seen.replace("'", "")


@pytest.fixture
def server() -> Iterator[tuple[Client, str]]:
    if not SERVER:
        pytest.skip(reason="no ClickHouse server was named in CLICKHOUSE_URL")
    name = f"vigil_trial_{secrets.token_hex(4)}"
    parts = urlsplit(SERVER)
    base = f"{parts.scheme}://{parts.netloc}"
    store = ClickHouse(base)
    store.command(f"CREATE DATABASE {name}")
    try:
        apply(ClickHouse(f"{base}/{name}"), read_migrations())
        with _client(name) as admin:
            for text in statements("roles.sql"):
                admin.command(text)
            yield admin, name
    finally:
        store.command(f"DROP DATABASE {name}")


@pytest.fixture
def user(server: tuple[Client, str]) -> Iterator[str]:
    name = f"trial_{secrets.token_hex(4)}"
    server[0].command(f"CREATE USER {name} IDENTIFIED WITH sha256_password BY '{PASSWORD}'")
    yield name
    server[0].command(f"DROP USER {name}")


def _client(database: str, user: str = "") -> Client:
    parts = urlsplit(SERVER)
    return clickhouse_connect.get_client(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 8123,
        username=user or parts.username,
        password=PASSWORD if user else parts.password or "",
        database=database,
    )


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        (
            "vigil_reader",
            ["SELECT count() FROM predictions", "SELECT max(offset) FROM ledger"],
            ["SELECT value FROM ledger", "SELECT * FROM patients", "INSERT INTO alerts VALUES"],
        ),
        (
            "vigil_writer",
            ["SELECT value FROM ledger", "SELECT count() FROM system.processes"],
            ["DROP TABLE ledger", "ALTER TABLE ledger DELETE WHERE 1", "TRUNCATE TABLE alerts"],
        ),
        (
            "vigil_verifier",
            ["SELECT value FROM ledger", "SELECT count() FROM alerts"],
            ["INSERT INTO alerts VALUES", "INSERT INTO schema_version (version) VALUES (9)"],
        ),
        (
            "vigil_auditor",
            ["SELECT value FROM ledger", "SELECT count() FROM system.parts"],
            ["DROP TABLE ledger", "INSERT INTO verifications (records) VALUES (9)"],
        ),
    ],
)
def test_a_server_lets_each_role_do_its_work_and_nothing_else(
    server: tuple[Client, str], user: str, role: str, may: list[str], may_not: list[str]
) -> None:
    admin, database = server
    admin.command(f"GRANT {role} TO {user}")
    admin.command(f"SET DEFAULT ROLE {role} TO {user}")
    with _client(database, user) as client:
        for text in may:
            client.query(text)
        for text in may_not:
            with pytest.raises(DatabaseError):
                client.command(text)
