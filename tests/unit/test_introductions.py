"""Who is introduced to identity.v1: once a day and key, by the records alone."""

import contextlib
from collections.abc import Sequence

import pytest
from builders import ingest, observation, record
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.introductions import DAY_US, PREFIX, Introductions
from services.ingest.wire import Wire
from services.runtime.ports import Row

Asked = tuple[bytes, int, int]

ASKED = st.tuples(
    st.sampled_from([b"a" * 16, b"b" * 16, b"c" * 16]),
    st.integers(0, 3 * DAY_US),
    st.integers(1, 2),
)


def answers(introductions: Introductions, asked: Sequence[Asked]) -> list[bool]:
    return [answer(introductions, *each) for each in asked]


def answer(introductions: Introductions, name: bytes, at: int, epoch: int) -> bool:
    due = introductions.due(name, at, epoch)
    introductions.told([name], at, epoch)
    return due


def compacted(rows: Sequence[Row]) -> list[Row]:
    """Keep the last row of each key where it stands, as a broker may."""
    last = {key: place for place, (key, _) in enumerate(rows)}
    return [row for place, row in enumerate(rows) if last[row[0]] == place]


@given(
    batches=st.lists(st.lists(ASKED, max_size=5), max_size=8),
    dies=st.integers(0, 8),
    whole=st.booleans(),
)
def test_a_restart_changes_nothing(batches: list[list[Asked]], dies: int, *, whole: bool) -> None:
    undisturbed = Introductions()
    expected = [answers(undisturbed, asked) for asked in batches]
    current, rows = Introductions(), list[Row]()
    found = []
    for number, asked in enumerate(batches):
        if number == dies:
            current = Introductions()
            for key, value in rows if whole else compacted(rows):
                current.load(key, value)
        found.append(answers(current, asked))
        rows += current.changes()
    assert found == expected


@given(st.lists(ASKED))
def test_whoever_is_new_under_the_latest_stamp_is_introduced_once(asked: list[Asked]) -> None:
    found = answers(Introductions(), asked)
    stamps = [(at // DAY_US, epoch) for _, at, epoch in asked]
    for place, (name, _, _) in enumerate(asked):
        latest = max(stamps[: place + 1])
        told = any(
            asked[before][0] == name and stamps[before] == latest == max(stamps[: before + 1])
            for before in range(place)
        )
        assert found[place] == (stamps[place] < latest or not told)


@given(st.lists(ASKED, min_size=1))
def test_the_changelog_keeps_those_of_the_latest_stamp_alone(asked: list[Asked]) -> None:
    introductions, rows = Introductions(), list[Row]()
    for each in asked:
        answer(introductions, *each)
        rows += introductions.changes()
    latest = max((at // DAY_US, epoch) for _, at, epoch in asked)
    today = {PREFIX + name for name, at, epoch in asked if (at // DAY_US, epoch) == latest}
    assert {key for key, value in compacted(rows) if value is not None} == today


def test_a_record_that_fails_after_its_patient_was_due_has_introduced_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = ingest()

    def fail(*_: object) -> bytes:
        raise ValueError

    with monkeypatch.context() as broken:
        broken.setattr(Wire, "receipt", fail)
        with contextlib.suppress(ValueError):
            task.handle([record(observation())])
    later = list(task.handle([record(observation(), offset=1)]))
    assert "identity.v1" in [output.topic for output in later]


def test_a_patient_of_many_records_is_told_of_once() -> None:
    task = ingest()
    outputs = list(task.handle([record(observation(), offset=offset) for offset in range(5)]))
    assert [output.topic for output in outputs].count("identity.v1") == 1
    again = ingest()
    for key, value in task.changes():
        again.load(key, value)
    later = list(again.handle([record(observation(), offset=5)]))
    assert "identity.v1" not in [output.topic for output in later]
