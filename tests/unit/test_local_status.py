"""What `vigil status` says of a process, of its meters and of the store."""

import json
from pathlib import Path

import pytest
import typer

from services.cli import stack as commands
from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault
from services.local import status
from services.local.home import Home
from services.local.meters import SILENT, meters, read
from services.local.ports import free_port
from services.local.stack import Stack
from services.local.status import Kept, Row, kept

ROW = {
    "last_record_at": "2026-01-05 10:00:00.000",
    "open_alarms": 1,
    "open_watches": 2,
    "proved_at": None,
    "findings": 0,
}
METRICS = """\
# HELP vigil_lag_records Offsets between the position and the end of a partition.
# TYPE vigil_lag_records gauge
vigil_lag_records{topic="vitals.v1",partition="0"} 1.0
vigil_lag_records{topic="vitals.v1",partition="1"} 412.0
# TYPE vigil_watermark_timestamp_seconds gauge
vigil_watermark_timestamp_seconds{topic="vitals.v1",partition="0"} 1.7e9
vigil_watermark_timestamp_seconds{topic="vitals.v1",partition="1"} 1.6e9
vigil_watermark_timestamp_seconds{topic="vitals.v1",partition="2"} NaN
"""


def test_lag_is_that_of_the_longest_queue_and_time_that_of_the_slowest_partition() -> None:
    told = read(METRICS)
    assert (told.lag, told.watermark_at) == (412, 1.6e9)
    assert told.of("lag_records", partition="0") == [1.0]


def test_what_a_service_does_not_tell_is_unknown_and_not_nought() -> None:
    assert (SILENT.lag, SILENT.watermark_at) == (None, None)
    assert meters(free_port(), {}) == SILENT
    with pytest.raises(ValueError, match=r"."):
        read("<html>not a metric")


@pytest.mark.parametrize(
    ("state", "code", "red"),
    [
        ("RUNNING", 0, False),
        ("RUNNING", 3, False),  # of the life before
        ("BACKOFF", 70, False),
        ("BACKOFF", 3, True),
        ("STOPPED", 6, True),
        ("EXITED", 3, True),
        ("EXITED", 6, True),
        ("ORPHAN", 0, True),
    ],
)
def test_what_does_not_come_back_by_itself_is_red(state: str, code: int, red: bool) -> None:  # noqa: FBT001 - a case
    assert Row(name="scoring", state=state, exit_code=code).red is red


def test_a_store_that_does_not_answer_or_has_no_tables_is_not_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack = Stack(home=Home(root=tmp_path, cache=tmp_path), given={})

    def refuses(*_: object) -> list[dict[str, object]]:
        raise CommandError("no table ledger", "migrate", Fault.STORE_SILENT)

    assert kept(stack, lambda _: False) is None
    monkeypatch.setattr(status, "ask", refuses)
    assert kept(stack, lambda _: True) is None
    monkeypatch.setattr(status, "ask", lambda *_: [ROW])
    assert kept(stack, lambda _: True) == Kept(**ROW)  # type: ignore[arg-type]  # of the store


@pytest.mark.parametrize(
    ("proved_at", "findings", "words"),
    [
        (None, 0, "ledger proved whole: never;"),
        ("2026-03-01 08:00:00.000", 0, "ledger proved whole: 2026-03-01 08:00:00.000 UTC;"),
        ("2026-03-01 08:00:00.000", 3, "08:00:00.000 UTC, then 3 FINDINGS;"),
    ],
)
def test_status_says_when_the_ledger_was_proved_and_what_was_found_since(
    proved_at: str | None, findings: int, words: str
) -> None:
    row = {**ROW, "proved_at": proved_at, "findings": findings}
    assert words in commands._kept(Kept(**row))  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("note", ["", "partition 2 does not move"])
def test_status_is_one_object_and_a_finding_where_something_is_not_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], note: str
) -> None:
    row = Row(name="scoring", state="RUNNING", note=note, lag=412, watermark_age_s=90)
    monkeypatch.setattr(status, "rows", lambda _: [row])
    monkeypatch.setattr(status, "kept", lambda _: Kept(**ROW))  # type: ignore[arg-type]  # as above
    if note:
        with pytest.raises(typer.Exit) as ended:
            commands.status(json=True)
        assert ended.value.exit_code == ExitCode.FINDING
    else:
        commands.status(json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "vigil.status/1"
    assert told["store"] == ROW
    [process] = told["processes"]
    assert (process["lag"], process["watermark_age_s"], process["well"]) == (412, 90, not note)


def test_the_table_names_what_waits_why_and_what_the_ledger_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    row = Row(name="scoring", state="EXITED", exit_code=3, note="no bundle", lag=412)
    monkeypatch.setattr(status, "rows", lambda _: [row])
    monkeypatch.setattr(status, "kept", lambda _: None)
    with pytest.raises(typer.Exit):
        commands.status()
    told = capsys.readouterr().out
    assert all(words in told for words in ("EXITED (3)", "412", "no bundle", "unknown"))
