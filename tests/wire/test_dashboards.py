"""Every query of every board, as the real engine and the real Prometheus take it."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import alert_path as hospital
import boards
import msgspec
import pytest
import yaml

from services.audit.migrate import apply, read_migrations
from services.audit.recorder import Recorder, Source
from services.audit.verdict import Noted, note
from services.audit.writer import write
from services.core.baseline import VITAL_FEATURES
from services.core.events import (
    Alert,
    Change,
    Disposition,
    Evidence,
    Fate,
    Feedback,
    Kind,
    Measurement,
    Signal,
    SignalStep,
    State,
    Step,
    Verdict,
    packed,
    prediction_id,
)
from services.core.feedback import REASONS
from services.local.home import REPO
from services.runtime.clickhouse import ClickHouse
from services.runtime.codec import EVENTS, Codec
from services.runtime.ports import Record
from services.runtime.topics.files import read_topics

pytestmark = pytest.mark.wire

Columns = Mapping[str, Sequence[Any]]
Answered = Callable[..., Columns]

CODEC = Codec(REPO / "schemas")
TOPICS = {t.event: t.topic for t in read_topics(REPO / "schemas") if t.event}
SECOND = 1_000_000
DAY = 86_400 * SECOND
UNITS = ("MICU", "St. John's (3)")
CHOSEN = {
    "window": ["24"],
    "feature": ["HR"],
    "metric": ["alert_rate"],
    "dimension": ["unit"],
    "group": ["unit=MICU"],
}
ASKED = [asked for asked in boards.queries() if asked.kind == boards.LEDGER]
PROMETHEUS = [asked for asked in boards.queries() if asked.kind != boards.LEDGER]


@cache
def at() -> int:
    """When all of it happened, µs: two minutes before the first test that asks."""
    return (int(time.time()) - 120) * SECOND


def window() -> int:
    return at() // DAY * DAY - DAY


def span() -> boards.Span:
    """Of a month, to ten minutes ahead: what the store writes while tests start lies within."""
    begin = at() // SECOND - 30 * 86_400
    return boards.Span(begin, begin + 30 * 86_400 + 720)


def scored(unit: str, offset: int, moment: int) -> msgspec.Struct:
    """Three measurements of a unit, the last of which leads to no score, and a tick."""
    batch = hospital.predictions(0, range(offset, offset + 4))
    kinds = list(Kind)
    ends = [Disposition.SCORED, Disposition.SCORED, Disposition.ABSTAINED, Disposition.STATE_ONLY]
    return msgspec.structs.replace(
        batch,
        kinds=bytes([*[kinds.index(Kind.OBSERVATION)] * 3, kinds.index(Kind.TICK)]),
        dispositions=bytes(ends),
        features=batch.features[: 4 * hospital.FEATURES * 2],
        scores=packed([0.2, 0.8, float("nan"), float("nan")], "<f4"),
        measured_at=packed([moment] * 4, "<i8"),
        received_at=packed([moment] * 4, "<i8"),
        accepted_at=packed([moment] * 4, "<i8"),
        cohort_labels=["unknown", "female", unit],
    )


def alerts(number: int, unit: str) -> Iterator[Alert]:
    """One that was cleared for every one that stands."""
    raised = msgspec.structs.replace(
        hospital.alert(0, number), unit=unit, measured_at=at(), received_at=at(), accepted_at=at()
    )
    yield raised
    if number % 4 == 1:
        yield msgspec.structs.replace(raised, step=Step.ESCALATED, severity=2)
    if number % 2:
        yield msgspec.structs.replace(raised, step=Step.CLEARED)


def answer(number: int, verdict: Verdict, reason: str = "") -> Feedback:
    return Feedback(
        feedback_id=f"f-{number}",
        source="west",
        alert_id=prediction_id(hospital.VITALS_ID, 0, number, digest=hospital.DIGEST),
        verdict=verdict,
        reason=reason,
        role="nurse",
        shown_at=at(),
        answered_at=at() + number * 60 * SECOND,
        actions=[],
        received_at=at(),
        accepted_at=at(),
    )


def stated(metric: str, unit: str, **of: Any) -> Measurement:
    whole: dict[str, Any] = {
        "cohort": "all",
        "start": window(),
        "end": window() + DAY,
        "revision": 0,
        "value": 0.2,
        "low": 0.1,
        "high": 0.3,
        "patients": 57,
        "positives": 21,
        "hours": 900,
        "maturity": 0.95,
        "threshold": 0.3,
        "p_value": 0.2,
        "state": State.OK,
    }
    return Measurement(metric=metric, unit_of_analysis=unit, **{**whole, **of})


def hidden(metric: str, unit: str, cohort: str) -> Measurement:
    return stated(
        metric, unit, cohort=cohort, value=None, low=None, high=None, patients=None,
        positives=None, state=State.INSUFFICIENT, why="suppressed",
    )  # fmt: skip


def statements() -> Iterator[Measurement]:
    cohorts = ("all", *(f"unit={unit}" for unit in UNITS))
    for cohort in cohorts:
        for feature in VITAL_FEATURES:
            state = State.ALARM if feature == "Resp" else State.OK
            yield stated("drift", "patient_hour", feature=feature, cohort=cohort, state=state)
        yield stated("calibration", "hour", cohort=cohort, value=1.1, low=0.9, high=1.4)
        yield stated("specificity", "hour", cohort=cohort)
        for metric in (
            "sensitivity", "ppv", "lead_time_h", "label_maturity", "alerted_before_onset",
            "alerts_per_100_patient_days",
        ):  # fmt: skip
            yield stated(metric, "first_alert", cohort=cohort)
        for metric in ("alert_rate", "not_scored_rate"):
            yield stated(metric, "patient", cohort=cohort)
    gap = {"cohort": f"unit={UNITS[1]}", "reference": "unit=MICU", "state": State.ALARM}
    yield stated("alert_rate_difference", "patient", **gap)
    unsure = {"state": State.INSUFFICIENT, "why": "few_alerted", "value": 0.9}
    yield stated("ppv", "first_alert", start=window() - DAY, end=window(), **unsure)
    yield hidden("alert_rate", "patient", "unit=SICU")
    yield msgspec.structs.replace(hidden("drift", "patient_hour", "all"), feature="EtCO2")


def signal() -> Signal:
    return Signal(
        signal_id="drift-Resp-all-1",
        step=SignalStep.OPENED,
        kind="drift",
        severity=State.ALARM,
        metric="drift",
        feature="Resp",
        cohort="all",
        start=window(),
        end=window() + DAY,
        summary="Resp is higher than in the baseline.",
        evidence=[Evidence(name="K", value="57")],
        runbook="drift",
    )


def change() -> Change:
    return Change(
        change_id="c-1",
        kind="baseline",
        subject="baseline/site",
        made_at=at(),
        effective_from=window(),
        requested_by="informatics",
        approved_by="committee",
        reason="First baseline.",
        before="",
        after="ab" * 32,
        content=b"{}",
    )


def messages() -> Iterator[msgspec.Struct]:
    for number, unit in enumerate(UNITS):
        yield scored(unit, 10 * number, at() - number * 1200 * SECOND)
        for each in range(4):
            yield from alerts(10 * number + each, unit)
    yield answer(1, Verdict.CONFIRMED)
    yield answer(2, Verdict.DISMISSED, next(iter(REASONS)))
    yield hospital.receipt((0, 1), list(Fate)[:2])
    yield hospital.dead_letter((0, 1), 1)
    yield from statements()
    yield signal()
    yield change()


@contextmanager
def made(clickhouse: tuple[str, int]) -> Iterator[ClickHouse]:
    """An empty ledger."""
    url, name = f"http://{clickhouse[0]}:{clickhouse[1]}", f"test_{uuid4().hex}"
    root = ClickHouse(url)
    root.command(f"CREATE DATABASE {name}")
    door = ClickHouse(f"{url}/{name}")
    try:
        apply(door, read_migrations())
        yield door
    finally:
        door.close()
        root.command(f"DROP DATABASE {name}")
        root.close()


@pytest.fixture(scope="module")
def store(clickhouse: tuple[str, int]) -> Iterator[ClickHouse]:
    """A ledger of one day in a small hospital."""
    with made(clickhouse) as door:
        fill(door)
        yield door


def fill(door: ClickHouse) -> None:
    sources = {
        topic: Source(
            topic=topic, topic_id=f"{number:032x}", phi=topic == "dlq.v1", event=EVENTS[e]
        )
        for number, (e, topic) in enumerate(TOPICS.items())
    }
    recorder = Recorder("cluster", sources, heads={}, held={}, decode=CODEC.decode)
    names = {kind: TOPICS[event] for event, kind in EVENTS.items() if event in TOPICS}
    recorder.add(
        [
            Record(names[type(message)], 0, offset, at() // 1000, b"key", CODEC.encode(message))
            for offset, message in enumerate(messages())
        ]
    )
    write(door, recorder.take())
    note(
        door,
        Noted(
            seconds=1.5,
            records=99,
            chains=9,
            sound=9,
            findings=0,
            heads="ab" * 32,
            version="0.1.0",
        ),
    )


@pytest.fixture(scope="module")
def answered(store: ClickHouse) -> Answered:
    """Asks as Grafana would, and the same only once."""
    known: dict[str, Columns] = {}

    def ask(asked: boards.Asked, **chosen: list[str]) -> Columns:
        text = boards.filled(asked, span(), {**CHOSEN, **chosen})
        if text not in known:
            known[text] = store.query(text)
        return known[text]

    return ask


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_every_query_of_the_ledger_finds_something(
    answered: Answered, asked: boards.Asked
) -> None:
    found = answered(asked)
    columns = list(found.values())
    assert columns, "no column"
    assert len(columns[0]) > 0, "no row"
    assert any(value is not None for column in columns for value in column)


@pytest.mark.parametrize("asked", [a for a in ASKED if a.target.get("format") == 0], ids=str)
def test_lines_begin_with_the_time_ascending_and_have_the_names_that_are_drawn(
    answered: Answered, asked: boards.Asked
) -> None:
    found = answered(asked)
    names = list(found)
    times = list(found[names[0]])
    assert names[0] == "time"
    assert times == sorted(times)
    if asked.panel["type"] == "timeseries":
        drawn = [o["matcher"]["options"] for o in asked.panel["fieldConfig"]["overrides"]]
        assert names[1:] == drawn


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_no_answer_holds_a_name_of_a_patient(answered: Answered, asked: boards.Asked) -> None:
    found = answered(asked)
    assert not set(found) & {"pseudonym", "encounter"}
    secret = {hospital.pseudonym(number) for number in range(-40, 40)}
    told = {value for column in found.values() for value in column if isinstance(value, bytes)}
    assert not told & (secret | {name.hex().encode() for name in secret})


@pytest.mark.parametrize("asked", [a for a in ASKED if a.panel.get("type") == "table"], ids=str)
def test_columns_of_a_table_that_are_described_are_there(
    answered: Answered, asked: boards.Asked
) -> None:
    found = set(answered(asked))
    looked_at = {
        override["matcher"]["options"]
        for override in asked.panel["fieldConfig"]["overrides"]
        if any(p["id"] == "custom.cellOptions" for p in override["properties"])
    }
    assert looked_at & found or not looked_at


def test_one_unit_is_chosen_by_its_name_and_by_nothing_that_looks_like_it(
    answered: Answered,
) -> None:
    [units] = [a for a in ASKED if a.title == "Units"]
    assert list(answered(units, unit=[UNITS[1]])["Unit"]) == [UNITS[1]]
    assert list(answered(units, unit=["MICU", "SICU"])["Unit"]) == ["MICU"]
    assert answered(units, unit=["M.*"]) == {}


def test_units_that_are_chosen_stand_in_place_of_everybody(answered: Answered) -> None:
    [drift] = [a for a in ASKED if a.title.startswith("Drift") and a.target["format"] == 1]
    assert set(answered(drift)["Cohort"]) == {"all"}
    both = answered(drift, unit=list(UNITS))["Cohort"]
    assert set(both) == {f"unit={unit}" for unit in UNITS}


def test_a_unit_that_was_not_heard_is_first_and_says_so(answered: Answered) -> None:
    [units] = [a for a in ASKED if a.title == "Units"]
    found = answered(units)
    assert list(zip(found["Unit"], found["Covered"], strict=True)) == [
        (UNITS[1], "quiet"),
        (UNITS[0], "covered"),
    ]
    assert list(found["Active alerts"]) == [2, 2]
    assert list(found["not scored"]) == [1, 1]


def test_an_alert_counts_once_at_the_highest_severity_that_was_told(answered: Answered) -> None:
    titles = ("Alerts by severity", "Alerts by severity, day by day")
    bars, days = (answered(next(a for a in ASKED if a.title == title)) for title in titles)
    assert dict(zip(bars["Severity"], bars["Alerts"], strict=True)) == {"no step": 6, "step 2": 2}
    assert [sum(days[name]) for name in ("no step", "step 1", "step 2")] == [6, 0, 2]


def test_what_cannot_be_judged_is_in_the_table_and_never_drawn(answered: Answered) -> None:
    line, table = (answered(a) for a in ASKED if a.title.startswith("PPV"))
    assert list(zip(line["value"], line["low"], line["high"], strict=True)) == [
        (None, None, None),
        (0.2, 0.1, 0.3),
    ]
    assert list(zip(table["State"], table["Value"], table["Why"], strict=True)) == [
        ("ok", 0.2, ""),
        ("insufficient", 0.9, "too few alerted patients"),
    ]


def test_what_was_suppressed_is_not_worse_than_an_alarm(answered: Answered) -> None:
    [worst] = [a for a in ASKED if a.title == "Worst state"]
    assert list(answered(worst)["state"]) == [3]


def test_a_proof_that_found_something_stands_on_both_boards(clickhouse: tuple[str, int]) -> None:
    with made(clickhouse) as door:
        titles = (
            "Findings of the last proof",
            "The ledger: how late it is, and when it was proved",
        )
        tile, table = (next(a for a in ASKED if a.title == title) for title in titles)

        def told() -> tuple[Any, ...]:
            [found] = door.query(boards.filled(tile, span(), CHOSEN))["findings"]
            row = door.query(boards.filled(table, span(), CHOSEN))
            return found, row["Findings of the last proof"][0], row["Proved whole"][0]

        assert told() == (None, None, None)
        of: dict[str, Any] = {"seconds": 1.0, "records": 9, "heads": "0" * 64, "version": "x"}
        note(door, Noted(chains=3, sound=3, findings=0, **of))
        assert told()[:2] == (0, 0)
        assert told()[2] is not None
        time.sleep(0.01)  # `ended_at` is of the store's clock, in ms
        note(door, Noted(chains=3, sound=2, findings=7, **of))
        assert told()[:2] == (7, 7)
        assert told()[2] is not None


def test_a_group_that_was_suppressed_is_shown_as_such_and_without_a_number(
    answered: Answered,
) -> None:
    [groups] = [a for a in ASKED if a.title == "Groups, by the latest window of each"]
    found = answered(groups)
    place = list(found["Group"]).index("SICU")
    assert found["State"][place] == "suppressed"
    numbers = ("Value", "Patients", "with onset", "Difference")
    assert [found[name][place] for name in numbers] == [None] * len(numbers)
    assert [found[name][place] for name in ("Interval", "Interval of it")] == ["", ""]
    assert found["State"][list(found["Group"]).index(UNITS[1])] == "alarm"


def test_an_empty_ledger_is_nowhere_told_as_good_news(clickhouse: tuple[str, int]) -> None:
    counts = {
        "Open alarms",
        "Open watches",
        "Active alerts",
        "Alerts raised",
        "Records kept",
        "Dead letters",
    }
    with made(clickhouse) as door:
        for asked in ASKED:
            if asked.panel.get("type") == "stat" and asked.title not in counts:
                values = [
                    value
                    for column in door.query(boards.filled(asked, span(), CHOSEN)).values()
                    for value in column
                ]
                assert all(value is None for value in values), asked


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        pytest.skip(reason="there is no promtool: apt-get install prometheus")
    return found


def test_prometheus_parses_every_expression(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"trial:vigil_{number}:asked", "expr": boards.filled(asked, span(), CHOSEN)}
        for number, asked in enumerate(PROMETHEUS)
    ]
    path = tmp_path / "asked.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"SUCCESS: {len(rules)} rules found", done.stdout)


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ("", {"Are patients scored?": 0, "Services that do not work": 6}),
        ("gateway ingest scoring", {"Are patients scored?": 1, "Services that do not work": 3}),
        ("gateway ingest", {"Are patients scored?": 0, "Services that do not work": 4}),
    ],
)
def test_silence_of_a_service_is_never_told_as_good_news(
    promtool: str, tmp_path: Path, series: str, expected: dict[str, int]
) -> None:
    asked = {a.title: boards.filled(a, span(), CHOSEN) for a in PROMETHEUS if a.title in expected}
    trial = {
        "rule_files": [],
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [
                    {"series": f'vigil_ready{{service="{name}"}}', "values": "1x10"}
                    for name in series.split()
                ],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": "1m",
                        "exp_samples": [{"labels": "{}", "value": expected[title]}],
                    }
                    for title, expression in asked.items()
                ],
            }
        ],
    }
    path = tmp_path / "trial.yml"
    path.write_text(yaml.safe_dump(trial))
    done = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_question_finds_something_in_the_store_of_a_demo(
    engine: Callable[[Path], Any],
) -> None:
    """VIGIL_DEMO names the home of one that has ended: .vigil/demo/stack after `make demo`."""
    home = os.environ.get("VIGIL_DEMO")
    if not home:
        pytest.skip(reason="no demo was named in VIGIL_DEMO")
    host, port = engine(Path(home) / "clickhouse").ready()
    door = ClickHouse(f"http://{host}:{port}/default")
    real, event = (
        boards.Span(*(next(iter(column)) for column in door.query(ends).values()))
        for ends in (
            f"SELECT toUnixTimestamp(min({time})) - {before} AS begin,"
            f" toUnixTimestamp(max({time})) + 60 AS end"
            " FROM predictions WHERE kind = 'observation'"
            for time, before in (("timestamp", 86_400), ("measured_at", 30 * 86_400))
        )
    )
    in_event_time = {"vigil-model-health", "vigil-subgroups", "vigil-alerts-and-answers"}
    for asked in ASKED:
        span_of = event if asked.board in in_event_time else real
        chosen = {**CHOSEN, "group": ["all"]}
        found = door.query(boards.filled(asked, span_of, chosen))
        assert any(len(column) for column in found.values()), asked
    door.close()
