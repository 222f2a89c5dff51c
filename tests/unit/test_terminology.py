from collections.abc import Callable
from pathlib import Path

import pytest
from builders import SCHEMAS, message, observation, quantity, terminology

from services.core.errors import CommandError, ExitCode, Reason, Refusal
from services.core.terminology.book import NOT_LOINC, TABLES, Terminology
from services.core.terminology.codes import NOT_OURS, PANEL, is_loinc
from services.core.terminology.table import BadRow
from services.core.vitals import UNITS, VARIABLE_INDEX, VARIABLES
from services.ingest.normalise.findings import Measured
from services.ingest.normalise.message import Reader
from services.ingest.tables import read_terminology

VITAL, LAB = ["vital-signs"], ["laboratory"]


def texts() -> dict[str, str]:
    return {name: (SCHEMAS / "terminology" / name).read_text() for name in TABLES}


def meant(*codes: str, category: list[str] | None = None) -> str:
    variable = terminology().concept(codes, VITAL if category is None else category).variable
    return {PANEL: "panel", NOT_OURS: "-"}.get(variable) or VARIABLES[variable]


def test_each_variable_has_a_range_in_its_unit() -> None:
    assert [v.name for v in terminology().variables] == list(VARIABLES)
    assert [v.unit for v in terminology().variables] == [UNITS[name] for name in VARIABLES]


@pytest.mark.parametrize(
    ("codes", "category", "variable"),
    [
        (["8867-4"], VITAL, "HR"),
        (["8889-8", "8867-4"], VITAL, "HR"),
        (["2708-6"], VITAL, "O2Sat"),
        (["2708-6"], LAB, "SaO2"),
        (["59408-5", "2708-6"], VITAL, "O2Sat"),
        (["59408-5", "2708-6"], [], "O2Sat"),
        (["20564-1"], LAB, "SaO2"),
        (["20564-1", "2708-6"], VITAL, "O2Sat"),
        (["8867-4", "29463-7"], VITAL, "HR"),
        (["8310-5"], [], "Temp"),
        (["85354-9"], VITAL, "panel"),
        (["1994-3"], LAB, "-"),
        (["2532-0"], LAB, "-"),
        (["2746-6"], LAB, "-"),
    ],
)
def test_a_code_is_read_with_its_category(
    codes: list[str], category: list[str], variable: str
) -> None:
    assert meant(*codes, category=category) == variable
    assert meant(*reversed(codes), category=category) == variable


@pytest.mark.parametrize(
    ("codes", "category", "reason"),
    [
        (["8867-4", "8310-5"], VITAL, Reason.CODE_CONFLICT),
        (["59408-5", "2708-6"], LAB, Reason.CODE_CONFLICT),
        (["17861-6", "1995-0"], LAB, Reason.CODE_CONFLICT),
        (["2524-7", "2532-0"], LAB, Reason.CODE_CONFLICT),
        (["85354-9", "8480-6"], VITAL, Reason.CODE_CONFLICT),
        (["2708-6"], [], Reason.FHIR_CODE),
        (["2708-6"], ["exam"], Reason.FHIR_CODE),
        (["20564-1", "2708-6"], [], Reason.FHIR_CODE),
    ],
)
def test_codes_that_contradict_or_leave_it_open_are_refused(
    codes: list[str], category: list[str], reason: Reason
) -> None:
    for given in (codes, codes[::-1]):
        with pytest.raises(Refusal) as caught:
            terminology().concept(given, category)
        assert caught.value.reason is reason


def test_codes_that_nobody_knows_are_not_ours() -> None:
    assert terminology().concept(["2089-1"], VITAL).variable == NOT_OURS
    assert terminology().concept([], VITAL).code == NOT_LOINC


def test_codes_that_are_often_written_with_a_wrong_check_digit_are_no_codes() -> None:
    for right, wrong in (("3173-2", "3173-0"), ("3255-7", "3255-5"), ("19889-5", "19834-0")):
        assert is_loinc(right)
        assert not is_loinc(wrong)


@pytest.mark.parametrize("text", ["", "8867", "8867-", "-4", "8867-44", "٨٨٦٧-4", "8867-4\n"])
def test_a_text_of_another_form_is_no_code(text: str) -> None:
    assert not is_loinc(text)


def test_only_codes_are_told_outside() -> None:
    assert terminology().told("2089-1") == "2089-1"
    assert terminology().told("Zebediah") == NOT_LOINC


@pytest.mark.parametrize(
    ("table", "change", "line"),
    [
        ("variables.csv", lambda t: t.replace("HR,/min", "HR,/s"), "line 2"),
        ("variables.csv", lambda t: t.replace("HR,", "Pulse,"), "line 2"),
        ("variables.csv", lambda t: t.replace("Temp,Cel,20,46", "Temp,Cel,46,20"), "line 4"),
        ("variables.csv", lambda t: t.replace("Temp,Cel,20,46", "Temp,Cel,warm,46"), "line 4"),
        ("variables.csv", lambda t: t.replace("Temp,Cel,20,46", "Temp,Cel,20,inf"), "line 4"),
        ("variables.csv", lambda t: t.replace("20,46,32,44", "20,46,10,44"), "line 4"),
        ("variables.csv", lambda t: t.rpartition("Platelets")[0], "33 rows"),
        ("variables.csv", lambda t: t + "More,1,,,,,\n", "line 36"),
        ("codes.csv", lambda t: t.replace("8867-4", "8867-5"), "line 2"),
        ("codes.csv", lambda t: t.replace("8867-4,HR", "8867-4,Pulse"), "line 2"),
        ("codes.csv", lambda t: t.replace("8867-4,HR,", "8867-4,HR,exam"), "line 2"),
        ("codes.csv", lambda t: t + "8867-4,HR,,,again\n", "a second row"),
        ("codes.csv", lambda t: t + "2708-6,HR,,,again\n", "a second row"),
        ("codes.csv", lambda t: t.replace("8867-4,HR,,,Heart rate", "8867-4"), "line 2"),
        ("codes.csv", lambda t: t.replace("loinc,", "code,"), "line 1"),
        ("units.csv", lambda t: t.replace("HR,/min,", "HR,/s,", 1), "HR has no row for /min"),
        ("units.csv", lambda t: t.replace("-32,5,9", "-32,5,0"), "line 9"),
        ("units.csv", lambda t: t.replace("-32,5,9", "-32,five,9"), "line 9"),
        ("units.csv", lambda t: t + "HR,/min,,,,,\n", "a second row"),
        ("units.csv", lambda t: t + "Pulse,/min,,,,,\n", "no such variable"),
        ("people.csv", lambda t: t + "height,urn:x,1,tall,\n", "the dimension"),
        ("people.csv", lambda t: t + t.splitlines()[1] + "\n", "a second row"),
        ("resources.csv", lambda t: t + "Obser vation\n", "no resource type"),
        ("codes.csv", lambda t: t.replace("mm[Hg] kPa,", "mm[Hg] psi,"), "psi"),
        ("codes.csv", lambda t: t + '8867-4,"HR" x,,,\n', "line 94"),
        ("local_codes.csv", lambda t: t + "L,HR,8867-5,\n", "no LOINC code"),
        ("local_codes.csv", lambda t: t + "http://loinc.org,1-8,8867-4,\n", "belong in codes"),
        ("local_codes.csv", lambda t: t + "L,HR,8867-4,\n" * 2, "a second row"),
        ("local_units.csv", lambda t: t + ",bpm,/moment,\n", "does not have"),
        ("local_units.csv", lambda t: t + ",bpm,/min,\n" * 2, "a second row"),
        (
            "local_units.csv",
            lambda t: t + "http://unitsofmeasure.org,x,/min,\n",
            "belong in units",
        ),
    ],
)
def test_a_bad_row_is_refused_with_its_line(
    table: str, change: Callable[[str], str], line: str
) -> None:
    changed = texts()
    changed[table] = change(changed[table])
    with pytest.raises(BadRow, match=line) as caught:
        Terminology.parse(changed)
    assert str(caught.value).startswith(table)


def test_any_change_of_a_table_is_another_version() -> None:
    versions = {terminology().version}
    for table in TABLES:
        changed = texts()
        changed[table] = changed[table].rstrip("\n")
        versions.add(Terminology.parse(changed).version)
    assert len(versions) == 1 + len(TABLES)


def test_the_numbers_of_the_variables_are_those_of_the_wire() -> None:
    assert {v.name: v.index for v in terminology().variables} == VARIABLE_INDEX


SITE = {
    "codes.csv": "loinc,variable,category,units,meaning\n60985-9,MAP,,,after a site check\n",
    "units.csv": "variable,unit,add,multiply,divide,mistaken_upto,note\nHR,Hz,,60,,,\n",
    "variables.csv": (
        "variable,unit,possible_low,possible_high,usual_low,usual_high,note\n"
        "Resp,/min,0,120,4,60,a site's own range\n"
    ),
    "people.csv": "dimension,system,code,label,meaning\npayer,urn:site,K,private,\n",
    "local_codes.csv": "system,code,loinc,note\nurn:site,PULSE,8867-4,\n",
    "local_units.csv": "system,unit,ucum,note\n,bpm,/min,\nurn:site,c/s,Hz,\n",
}


def site_folder(folder: Path, tables: dict[str, str] = SITE) -> Path:
    for name, text in tables.items():
        (folder / name).write_text(text)
    return folder


def sent(of_site: Terminology, **elements: object) -> tuple[float, str, str] | str:
    """Value, code and unit of an Observation as a site reads it, or why it does not."""
    reader = Reader(message(observation(**elements)), of_site)
    (entry,) = reader.entries()
    if not isinstance(entry.finding, Measured):
        return entry.detail
    (reading,) = entry.finding.readings
    return reading.value, reading.code, reading.unit


def test_a_site_extends_and_replaces_rows_and_that_is_another_version(tmp_path: Path) -> None:
    ours = read_terminology(SCHEMAS / "terminology", site_folder(tmp_path))
    assert ours.version != terminology().version
    assert VARIABLES[ours.concept(["60985-9"], VITAL).variable] == "MAP"
    assert terminology().concept(["60985-9"], VITAL).variable == NOT_OURS
    resp = ours.variables[VARIABLE_INDEX["Resp"]]
    assert (resp.usual.low, resp.possible.low) == (4, 0)
    assert [v.name for v in ours.variables] == list(VARIABLES)
    assert ours.people["payer", "urn:site", "K"] == "private"


def test_a_sites_own_names_for_codes_and_units_are_read_where_the_site_has_a_row(
    tmp_path: Path,
) -> None:
    ours = read_terminology(SCHEMAS / "terminology", site_folder(tmp_path))
    pulse = {"coding": [{"system": "urn:site", "code": "PULSE"}]}
    assert sent(ours, code=pulse) == (80.0, "8867-4", "/min")
    assert sent(ours, valueQuantity={"value": 70, "unit": "bpm"}) == (70.0, "8867-4", "/min")
    cycles = {"value": 1.5, "system": "urn:site", "code": "c/s"}
    assert sent(ours, valueQuantity=cycles) == (90.0, "8867-4", "Hz")
    assert sent(terminology(), valueQuantity={"value": 70, "unit": "bpm"}) == "UNIT_UNKNOWN"
    assert sent(terminology(), code=pulse) == NOT_LOINC
    assert sent(ours, valueQuantity={"value": 70, "unit": ["bpm"]}) == "UNIT_UNKNOWN"
    assert sent(ours, valueQuantity=quantity(70, "bpm")) == "UNIT_UNKNOWN"


@pytest.mark.parametrize(
    ("table", "row", "said"),
    [
        ("codes.csv", "8867-5,HR,,,", "site/codes.csv line 3: no LOINC code"),
        ("variables.csv", "Mood,1,,,,,", "site/variables.csv line 3: not the variable"),
        ("units.csv", "HR,Hz,,60,,,", "site/units.csv line 3: a second row"),
        ("units.csv", '"', "site/units.csv line 3: "),
        ("local_units.csv", ",x,bananas,", "site/local_units.csv line 4: units.csv does not"),
        ("resources.csv", "", "site/resources.csv: a site extends"),
        ("cods.csv", "", "site/cods.csv: a site extends"),
    ],
)
def test_a_bad_row_of_a_site_is_told_with_its_file_and_line(
    tmp_path: Path, table: str, row: str, said: str
) -> None:
    site_folder(tmp_path, {**SITE, table: f"{SITE.get(table, '')}{row}\n"})
    with pytest.raises(CommandError) as caught:
        read_terminology(SCHEMAS / "terminology", tmp_path)
    assert caught.value.what.startswith(said)
    assert caught.value.exit_code is ExitCode.CONFIGURATION


def test_a_site_that_cannot_be_read_is_told_and_none_is_none(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        read_terminology(SCHEMAS / "terminology", tmp_path / "nowhere")
    (tmp_path / "units.csv").write_bytes(b"\xff")
    with pytest.raises(CommandError, match="no UTF-8 at byte 0"):
        read_terminology(SCHEMAS / "terminology", tmp_path)
    assert read_terminology(SCHEMAS / "terminology").version == terminology().version
