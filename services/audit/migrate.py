"""Bring a store's tables to what `infra/clickhouse` says: numbered files, each applied once."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from services.core.errors import CommandError, Retry, Stop
from services.core.faults import Fault
from services.runtime.clickhouse import ClickHouse

FOLDER: Final = Path(__file__).resolve().parents[2] / "infra" / "clickhouse"
VERSIONS: Final = (
    "CREATE TABLE IF NOT EXISTS schema_version (version UInt32, name String, sha256 String,"
    " applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'))"
    " ENGINE = MergeTree ORDER BY version"
)
_MAKES: Final = re.compile(r"CREATE (?:TABLE|VIEW) IF NOT EXISTS \w+|ALTER TABLE \w+")
_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file of tables; once it has been applied anywhere it never changes."""

    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Of the text, hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self) -> list[str]:
        """Split the text at semicolons that end a line."""
        plain = "\n".join(
            line for line in self.text.splitlines() if not line.lstrip().startswith("--")
        )
        return [
            part.strip() for part in re.split(r";\s*$", plain, flags=re.MULTILINE) if part.strip()
        ]


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """Read the files, lowest number first."""
    found = ((_NAME.fullmatch(path.name), path) for path in sorted(folder.glob("*.sql")))
    return [
        Migration(version=int(match[1]), name=path.name, text=path.read_text())
        for match, path in found
        if match
    ]


def pending(store: ClickHouse, migrations: Sequence[Migration]) -> list[Migration]:
    """List what was not applied yet.

    Raises:
        CommandError: a file was changed after it had been applied, or the store is newer.
        Retry: no answer.
    """
    applied = _applied(store)
    known = {m.version: m for m in migrations}
    for version, sha256 in applied.items():
        if version not in known:
            raise CommandError(
                f"the store has schema version {version}, which this program does not know",
                "run the version of Vigil that wrote it, or a later one",
                Fault.STORE_NEWER,
            )
        if known[version].sha256 != sha256:
            raise CommandError(
                f"{known[version].name} was changed after it had been applied",
                "restore the file and put the change into a new one with the next number",
                Fault.MIGRATION_CHANGED,
            )
    return [m for m in migrations if m.version not in applied]


def apply(store: ClickHouse, migrations: Sequence[Migration], *, cluster: str = "") -> None:
    """Apply files in order; each statement may be repeated, so an interrupted run is run again.

    Args:
        store: the store.
        migrations: what it lacks.
        cluster: of the servers that keep copies of every table; empty: this server alone.

    Raises:
        Retry: no answer.
    """
    store.command(on_cluster(VERSIONS, cluster))
    for migration in migrations:
        for statement in migration.statements():
            store.command(on_cluster(statement, cluster))
        store.insert(
            "schema_version",
            {
                "version": [migration.version],
                "name": [migration.name],
                "sha256": [migration.sha256],
            },
        )


def on_cluster(statement: str, cluster: str) -> str:
    """Give a statement of ours as it is for all servers of a cluster.

    >>> on_cluster("CREATE TABLE IF NOT EXISTS t (n Int8) ENGINE = MergeTree ORDER BY n", "w")
    "CREATE TABLE IF NOT EXISTS t ON CLUSTER 'w' (n Int8) ENGINE = ReplicatedMergeTree ORDER BY n"
    """
    if not cluster:
        return statement
    everywhere = _MAKES.sub(lambda made: f"{made[0]} ON CLUSTER '{cluster}'", statement, count=1)
    return everywhere.replace("ENGINE = MergeTree", "ENGINE = ReplicatedMergeTree", 1)


def require_current(store: ClickHouse, migrations: Sequence[Migration]) -> None:
    """Go on only with a store whose tables are those of this program.

    Raises:
        Retry: tables are missing; `vigil ledger migrate` makes them while this process returns.
        Stop: the store is newer, or a file was changed after it had been applied.
    """
    try:
        missing = pending(store, migrations)
    except CommandError as error:
        raise Stop(f"ClickHouse: {error.what}; {error.remedy}") from None
    if missing:
        raise Retry(f"ClickHouse: {missing[0].name} is not applied; run `vigil ledger migrate`")


def _applied(store: ClickHouse) -> dict[int, str]:
    if not store.types_of("schema_version"):
        return {}
    rows = store.query("SELECT version, sha256 FROM schema_version ORDER BY version")
    return dict(zip(rows["version"], rows["sha256"], strict=True))
