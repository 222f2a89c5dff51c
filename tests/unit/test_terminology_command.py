"""`vigil terminology`: tables are checked, examples read, and the page on them is as printed."""

import json
from pathlib import Path

import pytest
from builders import REPO, SCHEMAS, bundle, encounter, observation, patient, quantity
from typer.testing import CliRunner

from services.cli.agreement import UNREAD, accounts
from services.cli.terminology import app, table
from services.core.errors import CommandError
from services.ingest.normalise.moments import instant
from services.ingest.tables import read_terminology

EXAMPLES = REPO.parent / "shared" / "data" / "fhir"
NOW = instant("2026-01-05T08:00:30Z")
TABLES = read_terminology(SCHEMAS / "terminology")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_SCHEMAS", str(SCHEMAS))


def written(folder: Path, *documents: object) -> Path:
    lines = [json.dumps(document) for document in documents]
    (folder / "all.ndjson").write_text("\n".join(lines))
    return folder


def test_entries_are_told_by_what_became_of_them(tmp_path: Path) -> None:
    stay = encounter(**{"class": {"code": "IMP"}})
    whole = bundle(patient(), stay, observation("2089-1"), observation(status="x"))
    path = written(tmp_path, whole, {"resourceType": "Device"}, [1])
    (account,) = accounts(path, TABLES, NOW).values()
    assert account.entries == 6
    assert account.fates == {
        **{("read", kind): 1 for kind in ("Patient", "Encounter")},
        **{("out of scope", what): 1 for what in ("code", "Device")},
        **{("refused", what): 1 for what in ("FHIR_STATUS", "FHIR_TYPE")},
    }
    assert account.differing == []
    assert account.compared == 8, "id, gender, birth date; id, subject, status and both ends"


def test_a_value_that_fhir_resources_reads_otherwise_is_named_by_its_place(tmp_path: Path) -> None:
    odd = observation(meta={"versionId": 3.5, "Zebediah": 1}, valueQuantity=quantity(80, "/min"))
    strange = {**odd, "meta": {"versionId": "1"}, "Zebediah": 1}
    (account,) = accounts(written(tmp_path, strange), TABLES, NOW).values()
    assert account.differing == [f"all.ndjson: {UNREAD}"]


@pytest.mark.usefixtures("tables")
def test_a_site_is_checked_before_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "codes.csv").write_text("loinc,variable,category,units,meaning\n8867-5,HR,,,\n")
    answer = CliRunner().invoke(app, ["check", "--site", str(tmp_path)])
    assert isinstance(answer.exception, CommandError)
    assert "site/codes.csv line 2" in answer.exception.what
    good = CliRunner().invoke(app, ["check", "--json"])
    assert json.loads(good.stdout)["version"] == TABLES.version


@pytest.mark.usefixtures("tables")
def test_reading_shows_no_value_and_ends_with_1_where_a_value_differs(tmp_path: Path) -> None:
    path = written(tmp_path, observation(subject={"reference": "Patient/Zebediah"}))
    answer = CliRunner().invoke(app, ["read", str(path)])
    assert (answer.exit_code, "Zebediah" in answer.output) == (0, False)
    path = written(tmp_path, {**observation(), "Zebediah": 77.7})
    answer = CliRunner().invoke(app, ["read", str(path), "--json"])
    assert (answer.exit_code, "77.7" in answer.output) == (1, False)
    assert json.loads(answer.stdout)["sources"][tmp_path.name]["differing"]


@pytest.mark.data
def test_the_page_on_the_examples_is_what_the_command_prints_and_nothing_differs() -> None:
    if not EXAMPLES.exists():
        pytest.skip(reason="needs ../shared/data/fhir")
    found = accounts(EXAMPLES, TABLES, instant("2030-01-01T00:00:00Z"))
    page = (REPO / "docs" / "fhir-examples.md").read_text()
    assert "\n".join(table(found)) in page
    assert [account.differing for account in found.values()] == [[]] * len(found)
    fates = {fate for account in found.values() for fate in account.fates}
    assert all(f"- `{what}`:" in page for fate, what in fates if fate == "refused")
