"""The demo's account says all that it must, and does not call well what is not."""

import asyncio
import io
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from rich.console import Console
from typing_extensions import override

from services.cli.demo import run
from services.cli.demo.account import Course, percentiles
from services.cli.demo.asking import Vigil
from services.cli.demo.command import (
    _json,
    _outcome,
    _recorded,
    _refuse_no_folder,
    _ward,
    milestone_of,
)
from services.cli.demo.listener import MILESTONES
from services.cli.demo.run import ELSEWHERE, Demo
from services.cli.demo.table import NEXT, PAGE, sections, show
from services.cli.demo.talk import Talk
from services.cli.demo.truth import Share
from services.cli.demo.watching import Found, Watched
from services.core.errors import CommandError, ExitCode
from services.core.events import Disposition, Fate, Step
from services.core.faults import Fault
from services.local.home import Home
from services.simulator.delivery import Sent


def sent() -> Sent:
    return Sent(
        sent=1_000,
        accepted=998,
        refused=Counter({400: 2}),
        entries=5_000,
        elapsed_s=10.0,
        latencies_ms=array("d", [1.0]),
    )


def course(**changes: Any) -> Course:
    found = Course(
        sent=sent().summary(),
        milestones_s={"ready": 9.5},
        latency_ms={"p50": 21.4, "p99": 80.6},
        counts={
            "entries": {"vitals": 4_990, "tick": 600, "dead": 3},
            "dead_letters": {"UNIT_UNKNOWN": 3},
            "predictions": {"scored": 900, "state_only": 2_400, "abstained": 12},
            "alerts": {"raised": 7, "cleared": 5},
        },
        heard={"cleared": 5, "raised": 7},
        verify={
            "ok": True,
            "records": 12_345,
            "chains": [{"sound": True}, {"sound": True}],
            "findings_total": 0,
        },
        reconcile={"ok": True, "unexplained_total": 0},
    )
    return msgspec.structs.replace(found, **changes)


def watching(**changes: Any) -> Watched:
    early = Found(
        kind="drift",
        feature="Temp",
        cohort="all",
        severity="watch",
        after_h=-30.0,
        of_the_story=False,
    )
    told = {"feature": "MAP", "severity": "alarm", "after_h": 18.0, "of_the_story": True}
    sensitivity = {"value": 0.5, "low": 0.3, "high": 0.7, "state": "ok", "why": ""}
    ppv = {"value": 0.1, "low": 0.05, "high": 0.2, "state": "insufficient", "why": "few_alerted"}
    found = Watched(
        scenario={"name": "pressure-low", "summary": "Low.", "at_h": 78.0},
        patients=[48, 61],
        signals=[early, msgspec.structs.replace(early, **told)],
        raised=200,
        answered={"confirmed": 40, "dismissed": 90},
        labels={
            "first_alert": {"sensitivity": sensitivity, "ppv": ppv},
            "hour": {"label_maturity": {"value": 0.925, "hours": 4_321}},
        },
        truth={"sensitivity": Share(above=11, below=20), "ppv": Share(above=11, below=99)},
        windows=28,
        differences=0,
    )
    return msgspec.structs.replace(found, **changes)


def rows(found: Course) -> dict[str, str]:
    return {name.strip(): value for section in sections(found) for name, value in section}


def test_the_table_shows_every_number_of_the_account() -> None:
    shown = rows(course())
    assert shown["messages sent"] == "1,000"
    assert shown["accepted: Kafka holds them"] == "998"
    assert shown["refused at the door"] == "2"
    assert shown["entries in them, by receipt"] == "5,593"
    assert shown["dead-lettered"] == shown["UNIT_UNKNOWN"] == "3"
    assert shown["scored"] == "900"
    assert shown["abstained: too little to score"] == "12"
    assert [shown[step] for step in ("raised", "cleared", "withdrawn")] == ["7", "5", "0"]
    assert shown["accepted → alert at a subscriber, p50 / p99"] == "21 / 81 ms"
    assert shown["ledger records"] == "12,345"
    assert shown["hash chains verified"] == "2 of 2"
    assert shown["offsets unexplained"] == "none"


def test_the_table_tells_what_watching_found_beside_the_truth() -> None:
    shown = rows(course(watching=watching()))
    assert shown["windows of a day judged"] == "2, of 48 to 61 patients"
    assert shown["what struck at hour 78"] == "pressure-low"
    assert shown["first alarm about it"] == "MAP, 18 h after"
    assert shown["drift signalled before it: false"] == "0 alarm, 1 watch"
    assert shown["drift of anything else since: false"] == "none"
    assert shown["groups that differ in alerts"] == "none"
    assert shown["alerts answered"] == "130 of 200 (65%)"
    assert shown["hours with a label"] == "4,321"
    assert shown["sensitivity of first alerts"] == "0.50 [0.30, 0.70]"
    assert shown["PPV of first alerts"] == "0.10 [0.05, 0.20] insufficient"
    assert shown["windows computed once more"] == "28: all numbers equal"


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("entries", [fate.value for fate in Fate]),
        ("predictions", [each.name.lower() for each in Disposition]),
        ("alerts", [step.value for step in Step]),
    ],
)
def test_no_count_is_left_out_of_the_table(table: str, names: list[str]) -> None:
    counts = {name: 7_001 + place for place, name in enumerate(names)}
    found = course(counts=course().counts | {table: counts})
    shown = {value for section in sections(found) for _, value in section}
    assert {f"{count:,}" for count in counts.values()} <= shown


def test_a_count_without_a_name_of_ours_is_shown_under_its_own() -> None:
    counts = course().counts | {"predictions": {"something new": 5}}
    assert rows(course(counts=counts))["something new"] == "5"


def test_what_is_wrong_is_shown_as_a_number() -> None:
    shown = rows(
        course(
            verify={
                "ok": False,
                "records": 9,
                "chains": [{"sound": True}, {"sound": False}],
                "findings_total": 4,
            },
            reconcile={"ok": False, "unexplained_total": 1_234},
        )
    )
    assert shown["hash chains verified"] == "1 of 2"
    assert shown["findings in the ledger"] == "4"
    assert shown["offsets unexplained"] == "1,234"


@pytest.mark.parametrize(
    "changes",
    [
        {"sent": sent().summary() | {"accepted": 997}},
        {"heard": {"raised": 7}},
        {"verify": course().verify | {"ok": False}},
        {"reconcile": {"ok": False, "unexplained_total": 1}},
        {"watching": watching(differences=1)},
        {"watching": watching(windows=0)},
    ],
)
def test_an_account_with_a_gap_does_not_add_up(
    changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert course().adds_up
    assert not course(**changes).adds_up
    assert _outcome(course(**changes), Path("logs")) == ExitCode.FINDING
    assert "read logs" in capsys.readouterr().err


def test_a_milestone_that_did_not_come_is_a_finding_though_all_adds_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    waited = course(until="first alert")
    assert waited.adds_up
    assert _outcome(waited, Path("logs")) == ExitCode.FINDING
    assert "the first alert did not come" in capsys.readouterr().err
    came = course(until="first alert", milestones_s={"ready": 9.5, "first alert": 12.0})
    assert _outcome(came, Path("logs")) == ExitCode.OK


def test_a_milestone_is_named_with_dashes_and_only_if_there_is_one() -> None:
    assert [milestone_of(name.replace(" ", "-")) for name in MILESTONES] == list(MILESTONES)
    assert milestone_of("") == ""
    with pytest.raises(typer.BadParameter, match="first-score, first-alert, first-signal"):
        milestone_of("second-alert")


def test_a_stream_ends_as_soon_as_who_hears_of_it_has_heard_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[int] = []

    async def feed(messages: Any, _: str, *, stop: asyncio.Event, progress: Any, **__: Any) -> Any:
        for number in messages:
            if stop.is_set():
                break
            progress(number)
            await asyncio.sleep(0)
        return sent()

    def hear(number: Any) -> bool:
        heard.append(number)
        return bool(number == 3)

    monkeypatch.setattr(run, "feed", feed)
    asyncio.run(run._feed(range(100), "", 60.0, hear))  # type: ignore[arg-type]  # of a fake
    assert heard == [0, 1, 2, 3]


def test_a_whole_account_ends_with_0_and_says_so_in_json() -> None:
    assert _outcome(course(), Path("logs")) == ExitCode.OK
    report = msgspec.json.decode(_json(course(), "some/where/stays.parquet"))
    assert report["schema"] == "vigil.demo/1"
    assert report["ok"] is True
    assert report["source"] == "stays.parquet"
    assert report["counts"] == course().counts


def test_no_line_is_broken_on_a_narrow_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    show(course(watching=watching()), console, ".vigil/demo/stack", ".vigil/demo/report.html")
    said = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert set(NEXT.format(home=".vigil/demo/stack").splitlines()) <= set(said.splitlines())
    assert PAGE.format(report=".vigil/demo/report.html") in said.splitlines()
    assert all(len(line) <= 80 for line in said.splitlines() if line[0] in "┌│├└")


def test_a_page_that_was_not_written_is_not_promised() -> None:
    console = Console(file=io.StringIO(), width=80)
    show(course(), console, ".vigil/demo/stack", "")
    said = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert "leadership" not in said


class Refusing(Vigil):
    """Gives no answer."""

    @override
    def ask(self, *arguments: str) -> dict[str, Any]:
        raise CommandError("nothing to report", "wait", Fault.LEDGER_EMPTY)


def test_a_stream_too_short_for_a_report_is_still_accounted_for(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    base = Home(root=tmp_path, cache=tmp_path)
    run = Demo(base, {}, talk=Talk(console), clock=lambda: 0.0)
    file = tmp_path / "report.html"
    file.write_text("of an earlier demo")
    run._report(Refusing({}), file)
    assert not file.exists()
    assert "no report" in console.file.getvalue()  # type: ignore[attr-defined]  # as above


def test_without_a_terminal_a_stream_is_told_in_a_line_every_half_minute() -> None:
    console = Console(file=io.StringIO())
    with Talk(console).streaming(90) as hear:
        for second in range(90):
            hear(Sent(sent=10 * second, elapsed_s=float(second)))
    said = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert said.splitlines() == [
        "30 s of streaming: 300 messages, 10/s",
        "60 s of streaming: 600 messages, 10/s",
    ]


def test_percentiles_of_nothing_are_nothing() -> None:
    assert percentiles([]) == {}
    assert percentiles([float(n) for n in range(101)]) == {"p50": 50.0, "p99": 99.0}


def test_the_demo_never_streams_into_a_cluster_of_somebody_else(tmp_path: Path) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": "a:1", "CLICKHOUSE_URL": "b", "VIGIL_MODEL": "here"}
    base = Home(root=tmp_path, cache=tmp_path)
    run = Demo(base, given, talk=Talk(Console(file=io.StringIO())), clock=lambda: 0.0)
    names = [program.name for program in run._stack.programs]
    assert {"kafka", "clickhouse"} <= set(names)
    assert run._stack.given == {"VIGIL_MODEL": "here"}
    assert all(not name.startswith(ELSEWHERE) for name in run._stack.given)


def test_what_cannot_be_streamed_or_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is nothing to replay"):
        _recorded(tmp_path / "absent.parquet")
    with pytest.raises(CommandError, match="cannot be written"):
        _refuse_no_folder(tmp_path / "absent" / "account.json")
    _refuse_no_folder(tmp_path / "account.json")


def test_the_simulated_ward_is_named_by_its_beds() -> None:
    assert _ward(3, 1, 10, "").name == "a ward of 3 patients"
