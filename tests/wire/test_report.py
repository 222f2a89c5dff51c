"""`vigil report` of a small store, as the real engine answers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import alert_path as hospital
import msgspec
import pytest
import reported

from services.audit.migrate import apply, read_migrations
from services.audit.recorder import Recorder, Source
from services.audit.writer import write
from services.cli.report.gather import gather
from services.core.errors import ExitCode
from services.core.events import (
    Alert,
    Change,
    Disposition,
    Evidence,
    Fate,
    Feedback,
    HourLabel,
    Kind,
    Labelled,
    Signal,
    SignalStep,
    State,
    Step,
    Verdict,
    packed,
)
from services.core.windows import DAY, HOUR, Window
from services.local.home import REPO
from services.runtime.clickhouse import ClickHouse
from services.runtime.codec import EVENTS, Codec
from services.runtime.ports import Record
from services.runtime.topics.files import read_topics

pytestmark = pytest.mark.wire
CODEC = Codec(REPO / "schemas")
TOPICS = {t.event: t.topic for t in read_topics(REPO / "schemas") if t.event}
AT = hospital.AT
PERIOD = Window(AT // DAY * DAY, AT // DAY * DAY + DAY)
PATIENTS = 13


def scored(moment: int, first: int) -> msgspec.Struct:
    """Two thirds are scored; from the others scoring abstained."""
    offsets = range(first, first + 3 * PATIENTS)
    batch = hospital.predictions(0, offsets)
    ends = [Disposition.SCORED if offset % 3 != 2 else Disposition.ABSTAINED for offset in offsets]
    moments = packed([moment] * len(offsets), "<i8")
    return msgspec.structs.replace(
        batch,
        kinds=bytes([list(Kind).index(Kind.OBSERVATION)] * len(offsets)),
        dispositions=bytes(ends),
        measured_at=moments,
        received_at=moments,
        accepted_at=moments,
        watermark=moment,
    )


def alerts(moment: int) -> Iterator[Alert]:
    """One for each patient, the first of which was withdrawn."""
    for number in range(PATIENTS):
        raised = msgspec.structs.replace(
            hospital.alert(0, number), measured_at=moment, received_at=moment, accepted_at=moment
        )
        yield raised
        if not number:
            yield msgspec.structs.replace(raised, step=Step.WITHDRAWN)


def answer(number: int, verdict: Verdict, reason: str, minutes: int) -> Feedback:
    return Feedback(
        feedback_id=f"f-{number}-{minutes}",
        source="west",
        alert_id=hospital.alert(0, number).alert_id,
        verdict=verdict,
        reason=reason,
        role="nurse",
        shown_at=AT,
        answered_at=AT + minutes * 60_000_000,
        received_at=AT,
        accepted_at=AT,
    )


def onset(number: int, lead_s: int | None) -> Labelled:
    label = HourLabel(
        score=0.7, threshold=0.5, above=True, raised=True, first_alert=True, label=1, final=True,
        onset=True, lead_s=lead_s, recognition_lead_s=None, treatment_lead_s=None, shown=True,
        answered_at=None, verdict="", reason="", acted_at=None, authority="final",
    )  # fmt: skip
    return Labelled(
        pseudonym=hospital.pseudonym(number),
        encounter=hospital.pseudonym(-number),
        hour=AT // HOUR * HOUR,
        revision=0,
        now=label,
    )


def signal(step: SignalStep, start: int, severity: State = State.ALARM) -> Signal:
    return Signal(
        signal_id="drift-HR-all-1",
        step=step,
        kind="drift",
        severity=severity,
        metric="drift",
        feature="HR",
        cohort="all",
        start=start,
        end=start + DAY,
        summary=f"drift of HR: {step}",
        evidence=[Evidence(name="patients", value="57")],
        runbook="drift",
    )


def changed(effective_from: int) -> Change:
    return Change(
        change_id=f"c-{effective_from}",
        kind="assay",
        subject="lab/<b>west</b>",
        made_at=AT,
        effective_from=effective_from,
        requested_by="informatics",
        approved_by="committee",
        reason="New analyzer.",
        before="",
        after="v2",
    )


def messages() -> Iterator[msgspec.Struct]:
    yield scored(AT, 0)
    yield scored(AT + 2 * DAY, 100)
    yield from alerts(AT)
    yield answer(1, Verdict.DISMISSED, "not-septic", 30)
    yield answer(1, Verdict.CONFIRMED, "", 90)
    yield answer(2, Verdict.CONFIRMED, "", 10)
    yield onset(1, 7_300)
    yield onset(2, None)
    yield hospital.receipt((0, 1), [Fate.VITALS, Fate.DEAD])
    yield hospital.dead_letter((0, 1), 1)
    yield reported.said("ppv", "first_alert", start=PERIOD.start, end=PERIOD.end, value=0.25)
    yield reported.said("ppv", "first_alert", start=PERIOD.end, end=PERIOD.end + DAY)
    yield signal(SignalStep.OPENED, PERIOD.start)
    yield signal(SignalStep.CLOSED, PERIOD.end)
    yield changed(AT)
    yield changed(AT + 2 * DAY)


@pytest.fixture(scope="module")
def url(clickhouse: tuple[str, int]) -> Iterator[str]:
    """A database that holds it all."""
    server, name = f"http://{clickhouse[0]}:{clickhouse[1]}", f"test_{uuid4().hex}"
    root = ClickHouse(server)
    root.command(f"CREATE DATABASE {name}")
    store = ClickHouse(f"{server}/{name}")
    apply(store, read_migrations())
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
            Record(names[type(message)], 0, offset, AT // 1000, b"key", CODEC.encode(message))
            for offset, message in enumerate(messages())
        ]
    )
    write(store, recorder.take())
    store.close()
    yield f"{server}/{name}"
    root.command(f"DROP DATABASE {name}")
    root.close()


@pytest.fixture
def store(url: str) -> Iterator[ClickHouse]:
    door = ClickHouse(url)
    yield door
    door.close()


def vigil(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli.main", "report", *arguments]
    environ = {**os.environ, "CLICKHOUSE_URL": url, "VIGIL_SCHEMAS": str(REPO / "schemas")}
    return subprocess.run(
        command, env=environ, cwd=folder, capture_output=True, text=True, check=False
    )


def test_what_is_counted_is_what_was_written_of_the_period(store: ClickHouse) -> None:
    found = gather(store, PERIOD, [])
    assert found.work.scored == 2 * PATIENTS
    assert sum(found.work.abstained.values()) == PATIENTS
    assert found.work.patients == 3 * PATIENTS
    assert found.work.refused == {"UNIT_UNKNOWN": 1}
    assert found.work.entries == 2
    assert [(m.name, m.version, m.scored) for m in found.models] == [
        ("sepsis", "1.0.0", 2 * PATIENTS)
    ]
    assert found.answers.raised == found.answers.patients == PATIENTS
    assert found.answers.withdrawn == 1
    assert found.leads == {-1: 1, 2: 1}
    assert [s.value for s in found.daily] == [0.25]


def test_the_first_answer_to_an_alert_counts(store: ClickHouse) -> None:
    answers = gather(store, PERIOD, []).answers
    assert answers.verdicts == {"confirmed": 1, "dismissed": 1}
    assert answers.reasons == {"not-septic": 1}
    assert answers.wait_s in (10 * 60, 30 * 60)


def test_a_signal_stands_as_it_did_at_the_end_of_the_period(store: ClickHouse) -> None:
    [then] = gather(store, PERIOD, []).signs
    [later] = gather(store, Window(PERIOD.start, PERIOD.end + DAY), []).signs
    assert (then.is_open, then.severity, then.evidence) == (True, "alarm", [("patients", "57")])
    assert (later.is_open, later.summary) == (False, then.summary)
    assert gather(store, Window(PERIOD.end + DAY, PERIOD.end + 2 * DAY), []).signs == []


def test_changes_are_those_that_came_into_force_in_the_period(store: ClickHouse) -> None:
    [change] = gather(store, PERIOD, []).changes
    assert (change.effective_from, change.approved_by) == (AT, "committee")
    [sign] = gather(store, PERIOD, []).signs
    assert [near.startswith("assay lab/") for near in sign.near] == [True]


def test_no_patient_is_named(store: ClickHouse) -> None:
    told = msgspec.json.encode(gather(store, PERIOD, []), enc_hook=str)
    assert not any(hospital.pseudonym(n).hex().encode() in told for n in range(-60, 60))


def test_the_command_writes_one_file_and_the_same_again(url: str, tmp_path: Path) -> None:
    asked = ("--from", "2026-03-01", "--to", "2026-03-02")
    files = [tmp_path / "first.html", tmp_path / "second.html"]
    done = [vigil(url, tmp_path, *asked, "--out", str(file)) for file in files]
    assert [each.returncode for each in done] == [ExitCode.OK] * 2, done[0].stderr
    assert done[0].stdout == ""
    page = files[0].read_bytes()
    assert page == files[1].read_bytes()
    assert b"lab/&lt;b&gt;west&lt;/b&gt;" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.html", "second.html"]


def test_a_dash_writes_the_same_page_to_stdout_and_no_file(url: str, tmp_path: Path) -> None:
    asked = ("--from", "2026-03-01", "--to", "2026-03-02", "--out")
    file = tmp_path / "page.html"
    assert vigil(url, tmp_path, *asked, str(file)).returncode == ExitCode.OK
    done = vigil(url, tmp_path, *asked, "-")
    assert (done.returncode, done.stdout.encode()) == (ExitCode.OK, file.read_bytes())
    assert list(tmp_path.iterdir()) == [file]
    assert vigil(url, tmp_path, *asked, "-", "--json").returncode == ExitCode.USAGE


def test_as_json_it_goes_to_stdout_and_no_file_is_written(url: str, tmp_path: Path) -> None:
    done = vigil(url, tmp_path, "--from", "2026-03-01", "--to", "2026-03-02", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    told: Mapping[str, Any] = json.loads(done.stdout)
    assert told["schema"] == "vigil.report/1"
    assert (told["start"], told["end"]) == PERIOD
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_said_first(url: str, tmp_path: Path) -> None:
    done = vigil(url, tmp_path, "--out", str(tmp_path / "absent" / "page.html"))
    assert done.returncode == ExitCode.USAGE
    assert "nothing can be written to" in done.stderr
