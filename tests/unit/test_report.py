"""The report: what stands on the page is what the store told, and nothing else happens there."""

import os
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape
from reported import PERIOD, START, change, daily, hidden, material, quiet, said, sign, whole
from typing_extensions import override

from services.cli.report import words
from services.cli.report.command import refuse_no_folder
from services.cli.report.decide import RULES, steps
from services.cli.report.drawing import drawable, svg
from services.cli.report.material import Answers, Material, Work
from services.cli.report.page import LARGEST, content, render, view
from services.cli.report.performance import PERFORMANCE, UNITS
from services.cli.report.view import Bars, Days, Dots, Grid, Mark, Table
from services.core.errors import CommandError
from services.core.events import Measurement, State
from services.core.windows import DAY
from services.local.home import REPO

SHARES = st.floats(0, 1)
HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>$\\frac{"


class Parsed(HTMLParser):
    """Elements with their attributes, and the text between them."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html.decode())

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    @override
    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(told: Material) -> Parsed:
    return Parsed(render(view(told)))


def tables(told: Material) -> dict[str, Table]:
    return {
        figure.table.caption: figure.table
        for section in view(told).sections
        for figure in section.figures
    }


def texts(told: Material, caption: str) -> list[list[str]]:
    return [[cell.text for cell in row] for row in tables(told)[caption].rows]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(SHARES, SHARES, SHARES), min_size=len(PERFORMANCE), max_size=len(PERFORMANCE)
    ),
    st.integers(11, 10**6),
)
def test_each_number_stands_with_its_interval_patients_and_maturity(
    numbers: list[tuple[float, float, float]], patients: int
) -> None:
    stated = [
        said(metric, unit, value=value, low=low, high=high, patients=patients, maturity=value)
        for (metric, unit), (value, low, high) in zip(PERFORMANCE, numbers, strict=True)
    ]
    rows = texts(material(whole=stated), "How good the alerts were, over the whole period")
    for (metric, unit), each, row in zip(PERFORMANCE, stated, rows, strict=True):
        assert row[:2] == [words.measure(metric), UNITS[unit]]
        low, high = row[3].split(" to ")
        for text, number in zip((row[2], low, high), each_number(each), strict=True):
            assert near(text) == pytest.approx(number, abs=0.00051 if "%" in text else 0.051)
        assert row[4] == f"{patients:,}"
        assert near(row[6]) == pytest.approx(each.maturity, abs=0.0051)


def each_number(stated: Measurement) -> tuple[float | None, ...]:
    return stated.value, stated.low, stated.high


def near(text: str) -> float:
    """Read a number back; what is in hundredths is one."""
    number = float(text.rstrip("% h"))
    return number / 100 if text.endswith("%") else number


def test_a_share_is_told_to_a_tenth_of_a_hundredth_and_a_time_in_hours() -> None:
    assert words.number("ppv", 0.12345) == "12.3%"
    assert words.number("lead_time_h", 3.25) == "3.2 h"
    assert words.number("calibration", 0.955) == "0.95"
    assert words.number("alert_rate_difference", -0.305) == "-30.5 points"
    assert words.interval(said("alert_rate_difference", "patient")) == "+31.0 to +53.0 points"


def test_every_text_of_every_table_is_on_the_page() -> None:
    told = material()
    there = {text.strip() for text in parsed(told).texts}
    for table in tables(told).values():
        wanted = {cell.text for row in table.rows for cell in row if cell.text}
        assert wanted <= there, table.caption


def test_counts_of_the_store_are_on_the_page() -> None:
    told = material()
    assert texts(told, "What became of the events") == [
        ["scored", "41,234"],
        ["no score: too old", "77"],
        ["refused: bad", "3"],
    ]
    assert texts(told, "Answers") == [
        ["confirmed", "160"],
        ["dismissed", "90"],
        ["no answer", "50"],
    ]
    [days] = [t for name, t in tables(told).items() if name.endswith("patient-days, by day")]
    assert [row[1].text for row in days.rows] == ["28.5"] * 10
    assert [row[0].text for row in days.rows][:2] == ["2026-03-01 00:00Z", "2026-03-02 00:00Z"]


def test_a_signal_stands_with_its_evidence_and_what_may_explain_it() -> None:
    [row] = texts(material(), "Signals")
    assert row == [
        "Resp", "everybody", "■ alarm", "2026-03-02 00:00Z",
        "patients 57; p value 0.001; reference abababababab",
        "unit /min: 98% before, 20% then; assay lab/west from 2026-03-02 00:00Z",
    ]  # fmt: skip


def test_a_mix_that_nobody_looked_at_is_not_told_as_nothing_found() -> None:
    untold = texts(material(signs=[sign(mix=None, near=[])]), "Signals")
    looked = texts(material(signs=[sign(mix=[], near=[])]), "Signals")
    assert untold[0][-1] == "units and codes were not looked at"
    assert looked[0][-1] == "nothing found"


def test_a_change_stands_with_who_asked_and_who_approved() -> None:
    [row] = texts(material(), "Changes")
    assert {"informatics", "committee", "First baseline.", "nothing → cdcdcdcdcdcd"} <= set(row)


def test_the_most_pressing_signal_is_first() -> None:
    signs = [
        sign(signal_id="a", step="closed", feature="HR"),
        sign(signal_id="b", severity="watch", feature="SBP"),
        sign(signal_id="c", cohort="unit=MICU"),
        sign(signal_id="d"),
    ]
    rows = texts(material(signs=signs), "Signals")
    assert [row[0] for row in rows] == ["Resp", "Resp", "SBP", "HR"]
    assert [row[1] for row in rows] == ["everybody", "MICU", "everybody", "everybody"]
    assert rows[-1][2] == "closed, was alarm"


@pytest.mark.parametrize("state", list(State))
def test_a_state_is_a_word_and_insufficient_has_no_mark(state: State) -> None:
    cell = words.state(said("ppv", "hour", state=state))
    assert str(state) in cell.text
    assert cell.state == ("" if state is State.INSUFFICIENT else str(state))


def test_marked_cells_of_the_page_are_judged_ones() -> None:
    css = (REPO / "services/cli/report/page.css").read_text()
    marked = [attrs.get("class") for tag, attrs in parsed(material()).elements if tag == "td"]
    assert set(marked) == {None, "ok", "watch", "alarm"}
    assert set(re.findall(r"td\.(\w+)", css)) == {"ok", "watch", "alarm"}


def test_what_is_suppressed_says_so_and_tells_no_number() -> None:
    [row] = [row for row in texts(material(), "Unit: groups") if row[0] == "SICU"]
    assert row[:3] == ["SICU", "<11", "░ suppressed, <11"]
    cells = texts(material(whole=[hidden("ppv", "first_alert")]), "The period in short")
    assert ["PPV", "not shown", "░ suppressed, <11"] in cells


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 60), max_size=8))
def test_no_small_count_is_shown_nor_left_to_be_reckoned(counts: dict[str, int]) -> None:
    found = words.shown(counts)
    gone = [name for name, count in found.items() if count is None]
    assert all(count is None or count == 0 or count >= 11 for count in found.values())
    assert all(found[name] in (None, count) for name, count in counts.items())
    assert len(gone) != 1 or sum(count > 0 for count in counts.values()) == 1


def test_few_patients_are_nowhere_counted() -> None:
    few = material(
        work=Work(patients=7, scored=90), answers=Answers(raised=5, patients=3, withdrawn=1)
    )
    assert texts(few, "The period in short")[0] == ["Patients", "<11", ""]
    [alerts] = [s for s in view(few).sections if s.name == "burden"]
    assert alerts.text[0].startswith("<11 alerts were raised for <11 patients; <11 were")


def hostile() -> Material:
    whole_hostile = [
        msgspec.structs.replace(each, cohort=each.cohort.replace("MICU", HOSTILE))
        for each in whole()
    ]
    return material(
        whole=whole_hostile,
        signs=[sign(cohort=f"unit={HOSTILE}", feature=HOSTILE, evidence=[(HOSTILE, HOSTILE)])],
        changes=[change(reason=HOSTILE, subject=HOSTILE, requested_by=HOSTILE)],
        work=Work(patients=99, scored=1, abstained={HOSTILE: 1}, refused={HOSTILE: 2}),
    )


def test_hostile_names_are_text_and_nothing_else() -> None:
    page = parsed(hostile())
    assert HOSTILE in page.texts
    usual = {(tag, *sorted(attrs)) for tag, attrs in parsed(material()).elements}
    assert {(tag, *sorted(attrs)) for tag, attrs in page.elements} <= usual
    assert "script" not in {tag for tag, _ in page.elements}


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    page = render(view(hostile())).decode()
    drawn = re.compile(r'src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]+"')
    assert len(drawn.findall(page)) >= 5
    rest = drawn.sub("", page).replace(str(escape(HOSTILE)), "")
    assert not re.search(r"https?:|//\w|url\(|@import|<script|<link|<iframe|javascript:", rest)
    for tag, attrs in Parsed(page.encode()).elements:
        assert not [name for name in attrs if name.startswith("on")], tag
        assert str(attrs.get("href", "#")).startswith("#")
    assert "default-src 'none'" in page


def test_headings_landmarks_names_and_language_are_there() -> None:
    page = parsed(material())
    tags = [tag for tag, _ in page.elements]
    assert ("html", {"lang": "en"}) in page.elements
    assert {"header", "nav", "main", "footer"} <= set(tags)
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption")
    assert all(attrs.get("alt") for tag, attrs in page.elements if tag == "img")
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.elements if tag == "th")


def test_every_drawing_stands_over_a_table_of_the_same_numbers() -> None:
    drawn = 0
    for section in view(material()).sections:
        for figure in section.figures:
            match figure.drawing:
                case Days(marks=marks):
                    assert len(marks) == len(figure.table.rows)
                case Bars(labels=labels):
                    assert labels == [row[0].text for row in figure.table.rows]
                case Grid(names=names, columns=columns):
                    assert names == figure.table.head[1:]
                    assert len(columns) == len(figure.table.rows)
                case _:
                    pass  # dots leave out what is no share
            drawn += drawable(figure.drawing)
            assert bool(figure.drawing) == bool(figure.alt)
    assert drawn >= 6


def test_what_cannot_be_judged_is_not_drawn() -> None:
    unsure = said("ppv", "first_alert", state=State.INSUFFICIENT, why="immature")
    [figure] = [
        figure
        for section in view(material(whole=[unsure])).sections
        for figure in section.figures
        if section.name == "performance" and isinstance(figure.drawing, Dots)
    ]
    assert not drawable(figure.drawing)
    assert "img" not in {
        tag for tag, _ in parsed(material(whole=[unsure], daily=[], leads={})).elements
    }


@pytest.mark.parametrize(
    "drawing",
    [
        Dots([Mark("$\\frac{", 0.2, 0.1, 0.3), Mark("x" * 99, None)], "share", percent=True),
        Dots([Mark("病棟", 0.2)], "share"),
        Days([Mark("03-01", 0.5, 0.6, 0.4)], "</svg>"),
        Bars(["a", "b"], [20, None], "patients"),
        Grid(["HR"], ["03-01", "03-02"], [["alarm", "insufficient"]]),
    ],
)
def test_whatever_the_names_are_a_drawing_is_made_and_is_the_same_again(drawing: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = svg(drawing)
    assert first == svg(drawing)
    assert first.startswith(b"<?xml")
    assert b"<script" not in first


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_writes_the_same_bytes(seed: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    program = (
        "from reported import material; from services.cli.report.page import render, view;"
        f" open({str(file)!r}, 'wb').write(render(view(material())))"
    )
    path = os.pathsep.join((str(REPO), str(REPO / "tests")))
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path, "TZ": f"UTC+{seed}"},
        check=True,
    )
    assert file.read_bytes() == render(view(material()))


def test_a_year_of_many_wards_is_small_enough_to_send() -> None:
    signs = [
        sign(signal_id=f"{ward}-{number}", cohort=f"unit=Ward {ward}")
        for ward in range(40)
        for number in range(20)
    ]
    wards = [
        said(metric, unit, cohort=f"unit=Ward {ward}")
        for ward in range(40)
        for metric, unit in (("alert_rate", "patient"), ("ppv", "first_alert"))
    ]
    year = material(daily=daily(365), signs=signs, whole=[*whole(), *wards])
    assert len(render(view(year))) <= LARGEST


def test_a_page_that_is_too_large_is_not_written() -> None:
    signs = [sign(signal_id=str(n), evidence=[("name", "x" * 20_000)]) for n in range(150)]
    with pytest.raises(CommandError, match="larger"):
        render(view(material(signs=signs)))


def test_nothing_to_decide_is_said_and_not_told_as_good_news() -> None:
    assert steps(quiet()) == []
    [section] = [s for s in view(quiet()).sections if s.name == "decide"]
    assert "no proof" in section.text[0]


def unlabelled() -> list[Measurement]:
    return [said("label_maturity", "hour", value=0.4)]


FOUND: list[tuple[str, dict[str, Any]]] = [
    ("devices, units and codes", {"signs": [sign()]}),
    ("for another day", {"signs": [sign(severity="watch")]}),
    ("is meant", {"signs": [sign(kind="fairness", metric="alert_rate_difference", feature="")]}),
    ("seldom chance", {"whole": whole()}),
    ("changed number of alerts", {"signs": [sign(kind="burden", feature="")]}),
    ("calibrated again", {"signs": [sign(kind="performance", feature="")]}),
    ("Freeze a baseline", {"daily": [said("drift", "patient_hour", why="no_baseline")]}),
    ("Do not judge", {"whole": unlabelled()}),
    ("longer period", {"whole": [hidden("sensitivity", "first_alert")]}),
    ("has too little", {"work": Work(patients=99, scored=10, abstained={"too_old": 11})}),
    ("could not be used", {"work": Work(entries=9_000, refused={"BAD": 8, "WORSE": 9})}),
    ("Go through the reasons", {"answers": Answers(raised=20, verdicts={"dismissed": 20})}),
    ("are seen at all", {"answers": Answers(raised=20, verdicts={"confirmed": 2})}),
    ("second person", {"changes": [change(approved_by="informatics")]}),
]


@pytest.mark.parametrize(("what", "of"), FOUND)
def test_each_rule_asks_for_its_decision_and_names_who_can_take_it(
    what: str, of: dict[str, Any]
) -> None:
    found = [step for step in steps(msgspec.structs.replace(quiet(), **of)) if what in step.what]
    assert len(found) == 1
    assert found[0].because
    assert found[0].who


def test_every_rule_is_tried_here_and_its_runbook_exists() -> None:
    assert len(FOUND) == len(RULES)
    for rule in RULES:
        assert not rule.runbook or (REPO / f"docs/runbooks/{rule.runbook}.md").is_file()


def test_a_closed_signal_asks_for_nothing() -> None:
    assert steps(msgspec.structs.replace(quiet(), signs=[sign(step="closed")])) == []


def test_an_empty_period_gives_a_page_that_claims_nothing() -> None:
    empty = Material(period=PERIOD)
    page = parsed(empty)
    assert "img" not in {tag for tag, _ in page.elements}
    rows = texts(empty, "The period in short")
    assert ["PPV", "—", "— insufficient"] in rows
    assert steps(empty) == []


def test_the_same_numbers_are_told_as_json() -> None:
    told = content(view(material()))
    captions = [table["caption"] for each in told["sections"] for table in each["tables"]]
    assert captions == list(tables(material()))
    assert msgspec.json.decode(msgspec.json.encode(told)) == told


def test_days_are_told_in_their_order() -> None:
    starts = [row[0].text for row in tables(material())["Drift by day: values, all patients"].rows]
    assert starts == sorted(starts)
    assert len(starts) == (PERIOD.end - START) // DAY


def test_a_folder_that_is_missing_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="nothing can be written"):
        refuse_no_folder(tmp_path / "absent" / "page.html", "--out")
    refuse_no_folder(tmp_path / "page.html", "--out")
