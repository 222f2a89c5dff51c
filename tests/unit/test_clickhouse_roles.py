"""The SQL for a server, held against the tables that `vigil ledger migrate` makes."""

import re

import pytest

from services.audit.migrate import FOLDER, VERSIONS, Migration, on_cluster, read_migrations

MADE = re.compile(r"CREATE (TABLE|VIEW) IF NOT EXISTS (\w+)")
GRANTED = re.compile(r"GRANT (.+) ON ([\w.*]+) TO (\w+)")
ASIDE = {"patients", "vitals", "outcomes", "ledger"}


def statements(name: str) -> list[str]:
    return Migration(version=0, name=name, text=(FOLDER / name).read_text()).statements()


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Tables and views, by name."""
    texts = [VERSIONS, *(s for m in read_migrations() for s in m.statements())]
    return {found[2]: found[1] for text in texts if (found := MADE.match(text))}


@pytest.fixture(scope="module")
def granted() -> list[tuple[str, ...]]:
    return [found.groups() for text in statements("roles.sql") if (found := GRANTED.match(text))]


def test_every_table_that_is_granted_exists(
    made: dict[str, str], granted: list[tuple[str, ...]]
) -> None:
    named = {place for _, place, _ in granted if place != "*" and not place.startswith("system.")}
    assert named
    assert named <= set(made)


def test_boards_see_every_table_but_those_of_single_patients(
    made: dict[str, str], granted: list[tuple[str, ...]]
) -> None:
    seen = {place for what, place, who in granted if who == "vigil_reader" and what == "SELECT"}
    assert seen == set(made) - ASIDE


def test_of_the_ledger_boards_see_neither_keys_nor_values(granted: list[tuple[str, ...]]) -> None:
    [columns] = [
        what for what, place, who in granted if (place, who) == ("ledger", "vigil_reader")
    ]
    assert not {"key", "value", "header_values", "sha256"} & set(re.findall(r"\w+", columns))


def test_nobody_may_change_or_remove_a_row() -> None:
    said = " ".join(statements("roles.sql") + statements("replicated.sql")).upper()
    assert not re.search(r"\b(ALTER|DELETE|TRUNCATE|DROP|UPDATE|ALL|ADMIN)\b", said)


def test_each_role_appends_to_its_own_tables_alone(granted: list[tuple[str, ...]]) -> None:
    appends = {(place, who) for what, place, who in granted if "INSERT" in what}
    others = {("schema_version", "vigil_owner"), ("verifications", "vigil_verifier")}
    assert appends == {("*", "vigil_writer"), *others}
    for place, _ in others:
        assert f"REVOKE INSERT ON {place} FROM vigil_writer" in statements("roles.sql")


def test_who_reads_cannot_write_and_is_bounded() -> None:
    made = [s for s in statements("roles.sql") if "PROFILE" in s]
    profiles = [s for s in made if "vigil_writer" not in s]
    reading = [s for s in profiles if "readonly = 2" in s]
    assert [re.findall(r"TO (\w+)$", s) for s in reading] == [["vigil_reader"], ["vigil_auditor"]]
    assert len(profiles) == len(reading) + 1, "who notes what was proved"
    for profile in profiles:
        assert re.search(r"max_execution_time = \d+ MAX \d+", profile)
        assert re.search(r"max_memory_usage = \d+ MAX \d+", profile)


def test_on_a_cluster_every_table_replicates_and_every_view_is_everywhere(
    made: dict[str, str],
) -> None:
    texts = [VERSIONS, *(s for m in read_migrations() for s in m.statements())]
    spread = [on_cluster(text, "ward") for text in texts]
    changes = [text for text in texts if text.startswith("ALTER TABLE ")]
    assert len(spread) == len(made) + len(changes)
    for text in spread:
        assert " ON CLUSTER 'ward' " in text
        assert "ENGINE = MergeTree" not in text
    tables = [name for name, kind in made.items() if kind == "TABLE"]
    assert sum("ENGINE = ReplicatedMergeTree" in text for text in spread) == len(tables)
    assert [on_cluster(text, "") for text in texts] == texts
