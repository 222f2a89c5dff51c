"""However the changelog was cut, compacted and read again, it restores what was known."""

from collections.abc import Iterator, Sequence

import pytest
import wards
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wards import HOUR, MINUTE, START, Run, cut, log, measured, scorer, tick, ward_log

from services.core.vitals import VARIABLES
from services.runtime.ports import Record, Row
from services.scoring.patients import journal
from services.scoring.patients.message import Messages
from services.scoring.patients.wire import Wire
from services.scoring.pipeline import Scoring

Log = list[Row]
several = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that goes round often."""
    monkeypatch.setattr(journal, "KEYS", 7)
    monkeypatch.setattr(journal, "MESSAGES", 40)
    monkeypatch.setattr(journal, "LEAF_BYTES", 2000)
    monkeypatch.setattr(journal, "LARGEST", 600)


def commits(records: list[Record], cuts: list[int]) -> Iterator[tuple[Run, Log]]:
    """A task that lives on, after each commit, and what it had written by then."""
    run, written = Run(), Log()
    for part in cut(records, [place % (len(records) + 1) for place in cuts]):
        list(run.task.handle(part))
        written += run.task.changes()
        yield run, written


def compacted(written: Log, data: st.DataObject) -> Log:
    """Take some rows away that later ones replace, and some deletions that are the last word."""
    newest = {key: place for place, (key, _) in enumerate(written)}
    random = data.draw(st.randoms(use_true_random=False))
    share = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    return [
        (key, row)
        for place, (key, row) in enumerate(written)
        if (newest[key] == place and row is not None) or random.random() >= share
    ]


def restored(written: Log) -> Scoring:
    task = Scoring(3, scorer())
    for key, row in written:
        task.load(key, row)
    return task


@several
@given(st.integers(0, 99), st.lists(st.integers(0, 999), max_size=60), st.data())
@pytest.mark.usefixtures("short")
def test_whatever_compaction_took_away_a_restart_knows_what_was_known(
    seed: int, cuts: list[int], data: st.DataObject
) -> None:
    records = log(ward_log(seed, hours=20, patients=4))
    stop = data.draw(st.integers(0, len(cuts)))
    for place, (run, written) in enumerate(commits(records, cuts)):
        if place % 11 == stop % 11:
            assert restored(compacted(written, data)).dump() == run.task.dump()
    assert restored(compacted(written, data)).dump() == run.task.dump()


@several
@given(st.integers(0, 99), st.lists(st.integers(0, 999), min_size=20, max_size=60), st.data())
@pytest.mark.usefixtures("short")
def test_a_task_that_is_restarted_at_every_commit_goes_on_as_one_that_never_was(
    seed: int, cuts: list[int], data: st.DataObject
) -> None:
    records = log(ward_log(seed, hours=20, patients=4))
    undisturbed, written = Run(), Log()
    for part in cut(records, [place % (len(records) + 1) for place in cuts]):
        task = restored(compacted(written, data))
        assert list(task.handle(part)) == list(undisturbed.task.handle(part))
        list(undisturbed.task.changes())
        written += task.changes()
    assert restored(written).dump() == undisturbed.task.dump()


def test_a_transaction_writes_one_record_for_all_its_patients() -> None:
    run = Run().hand(log(measured(f"p{i}", START, {"HR": 80}) for i in range(50)))
    assert sorted(run.rows) == [b"leaf-1", b"models"]


@pytest.mark.usefixtures("short")
def test_each_patient_is_written_whole_once_in_a_round() -> None:
    run, whole = Run(), 0
    for minute in range(400):
        event = measured(f"p{minute % 4}", START + minute * MINUTE, {"HR": 80.0 + minute % 9})
        list(run.task.handle(log([event], first=10 * minute)))
        whole += sum(len(key) == len(wards.person("p")) for key, _ in run.task.changes())
    # A leaf leaves the ring of 6 with every commit, and a row includes the 6 that are in it: of
    # each patient, who is in every fourth, one leaf asks for a row and the next does not.
    assert 400 / 3 <= whole <= 400 / 2


def test_of_many_patients_charted_in_turn_one_message_in_two_lets_a_row_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "MESSAGES", 10)
    patients, ring, turn = 20, 20, 40
    run, whole = Run(), list[int]()
    for number in range(ring + 2 * turn):
        event = measured(f"p{number % patients}", START + number * MINUTE, {"HR": 80})
        list(run.task.handle(log([event], first=10 * number)))
        keys = [key for key, _ in run.task.changes()]
        whole.append(sum(len(key) == len(wards.person("p")) for key in keys))
    started, first, second = whole[:ring], whole[ring : ring + turn], whole[ring + turn :]
    assert [sum(started), sum(first), sum(second)] == [0, patients, patients]


def test_what_was_taken_out_of_the_ring_is_not_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "MESSAGES", 10)
    run, written = Run(), Log()
    for number in range(60):
        event = measured(f"p{number % 4}", START + number * MINUTE, {"HR": 80})
        list(run.task.handle(log([event], first=10 * number)))
        written += run.task.changes()
    done, events = list[bytes](), Wire.events

    def counted(wire: Wire, messages: Sequence[bytes]) -> Messages:
        done.extend(messages)
        return events(wire, messages)

    monkeypatch.setattr(Wire, "events", counted)
    assert restored(written).dump() == run.task.dump()
    # The ring and the leaf that pushed another out of it.
    assert len(done) <= 10 + 1


@pytest.mark.usefixtures("short")
def test_a_message_too_long_for_a_leaf_is_kept_by_its_patients_row() -> None:
    long = measured("p", START, dict.fromkeys(VARIABLES, 80.0))
    run = Run()
    list(run.task.handle(log([measured("p", START - HOUR, {"HR": 80}), long])))
    written = list(run.task.changes())
    assert len(wards.CODEC.encode(long)) > journal.LARGEST
    assert wards.person("p") in dict(written)
    assert restored(written).dump() == run.task.dump()


@pytest.mark.usefixtures("short")
def test_who_was_forgotten_does_not_come_back_with_an_old_leaf() -> None:
    run, written = Run(), Log()
    for event in (
        measured("p", START, {"HR": 80}),
        measured("q", START + 40 * HOUR, {"HR": 80}),
        tick(START + 50 * HOUR),
    ):
        list(run.task.handle(log([event])))
        written += run.task.changes()
    kept: Log = [(key, row) for key, row in written if row is not None]
    assert [name for name, _ in restored(kept).dump()] == [wards.person("q")]
    assert [name for name, _ in restored(written).dump()] == [wards.person("q")]
