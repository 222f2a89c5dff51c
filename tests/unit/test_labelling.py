"""What labelling says, when, and what it refuses."""

import msgspec
import pytest
from batches import HOUR, Scored, batch, person
from joining import (
    T0,
    Run,
    alert,
    at,
    done,
    feedback,
    final,
    outcome,
    progress,
    records,
)

from services.core.errors import CommandError, Stop
from services.core.events import (
    Authority,
    Cause,
    Disposition,
    PredictionBatch,
    Role,
    Verdict,
    packed,
)
from services.core.labels import Rule
from services.labelling.__main__ import check_partitions
from services.runtime.ports import Record


def tick(hours: float) -> PredictionBatch:
    return batch([], watermark=at(hours))


def scored(who: int, hours: float, score: float = 0.25, **cohorts: str) -> PredictionBatch:
    return batch([Scored(who=who, at=at(hours), score=score, cohorts=cohorts)], watermark=None)


def stay(who: int = 1, hours: int = 12) -> Run:
    """A patient charted at the half of each hour, whose hours are over."""
    charted = [scored(who, hour + 0.5) for hour in range(hours)]
    return Run().tell(tick(0), *charted, tick(hours))


def test_an_hour_is_told_when_the_watermark_passes_its_end_and_not_before() -> None:
    run = Run().tell(tick(0), scored(1, 0.5), tick(0.9), scored(1, 1.5))
    assert final(run.labelled()) == {}
    run.tell(tick(1.0))
    assert list(final(run.labelled())) == [(person(1), at(0))]
    assert run.label(1, 0).score == 0.25


def test_the_highest_score_of_an_hour_counts_with_its_threshold() -> None:
    run = Run().tell(tick(0))
    for score, threshold in ((0.25, 0.75), (0.5, 0.5), (0.375, 0.25)):
        entry = Scored(who=1, at=at(0.5), score=score, threshold=threshold)
        run.tell(batch([entry], watermark=None))
    label = run.tell(tick(1)).label(1, 0)
    assert (label.score, label.threshold, label.above) == (0.5, 0.5, True)


def test_cohorts_are_those_of_the_last_score_and_do_not_change_once_told() -> None:
    run = Run().tell(tick(0), scored(1, 0.2, unit="micu"), scored(1, 0.6, unit="sicu"), tick(1))
    run.tell(scored(1, 0.4, 0.5, unit="ccu"))
    first, second = [each for each in run.labelled() if each.encounter]
    assert first.cohorts == second.cohorts
    assert dict(zip(first.cohort_dimensions, first.cohorts, strict=True))["unit"] == "sicu"
    assert second.now is not None
    assert second.now.score == 0.5


def test_a_late_score_restates_its_hour_if_it_is_higher_and_else_says_nothing() -> None:
    run = stay(hours=2)
    many = len(run.labelled())
    run.tell(scored(1, 0.7, 0.125))
    assert len(run.labelled()) == many
    run.tell(scored(1, 0.7, 0.5))
    (last,) = run.labelled()[many:]
    assert (last.hour, last.revision) == (at(0), 1)
    assert (last.before and last.before.score, last.now and last.now.score) == (0.25, 0.5)


def test_an_hour_that_was_never_scored_is_none_of_the_stay() -> None:
    seen = Scored(who=1, at=at(1.5), disposition=Disposition.ABSTAINED, cause=Cause.TOO_FEW_VITALS)
    run = Run().tell(tick(0), scored(1, 0.5), batch([seen], watermark=None), scored(1, 2.5))
    assert run.tell(tick(3)).hours(1) == {0: 0, 2: 0}


def test_what_was_seen_before_the_first_score_tells_where_a_stay_began() -> None:
    seen = Scored(who=1, at=at(0.5), disposition=Disposition.ABSTAINED, cause=Cause.TOO_FEW_VITALS)
    run = Run().tell(tick(0), batch([seen], watermark=None), scored(1, 1.5), tick(2))
    run.tell(outcome("o", 1, 30, onset_at=at(7.5)))
    assert not run.label(1, 1).from_start
    run.tell(outcome("p", 1, 30, onset_at=at(6.5), revision=1))
    assert run.label(1, 1).from_start


def test_a_shadow_says_nothing() -> None:
    run = Run().tell(
        tick(0), batch([Scored(who=1, at=at(0.5))], watermark=at(9), role=Role.SHADOW), tick(2)
    )
    assert final(run.labelled()) == {}
    assert run.counts["predictions.v1", "not_shown"] == 1


def test_time_is_told_once_an_hour_after_the_hours_that_it_ends() -> None:
    run = Run().tell(tick(0.1), tick(0.2), scored(1, 0.5), tick(1.1), tick(1.9), tick(4.2))
    said = [(bool(each.encounter), each.hour, each.watermark) for each in run.labelled()]
    assert said == [
        (False, at(0), at(0.1)),
        (True, at(0), at(0.2)),
        (False, at(1), at(1.1)),
        (False, at(4), at(4.2)),
    ]


def test_watermarks_never_go_back() -> None:
    run = stay(hours=4).tell(tick(2), outcome("o", 1, 30), scored(1, 2.6, 0.5), tick(9))
    watermarks = [each.watermark or 0 for each in run.labelled()]
    assert watermarks == sorted(watermarks)
    assert watermarks[0] == at(0)


def test_an_outcome_labels_the_hours_before_onset_and_finishes_them() -> None:
    run = stay().tell(outcome("o", 1, 30, onset_at=at(10.2)))
    ones = dict.fromkeys(range(4, 10), 1)
    assert run.hours(1) == dict.fromkeys(range(4), 0) | ones | {10: -1, 11: -1}
    assert all(run.label(1, hour).final for hour in range(12))
    assert [hour for hour in range(12) if run.label(1, hour).onset] == [10]


def test_the_mark_of_an_onset_moves_on_to_a_later_hour_that_is_scored() -> None:
    run = stay(hours=8).tell(outcome("o", 1, 30, onset_at=at(10.2)))
    assert [hour for hour in range(8) if run.label(1, hour).onset] == [7]
    run.tell(scored(1, 8.5), tick(9))
    assert [hour for hour in range(9) if run.label(1, hour).onset] == [8]


def test_a_higher_revision_takes_the_place_of_an_outcome_and_a_lower_one_does_not() -> None:
    run = stay().tell(outcome("b", 1, 30, onset_at=at(10), revision=1))
    said = len(run.labelled())
    run.tell(outcome("a", 1, 31, onset_at=at(4), revision=0))
    run.tell(outcome("c", 1, 31, onset_at=at(4), revision=9, authority=Authority.PROVISIONAL))
    assert len(run.labelled()) == said
    run.tell(outcome("d", 1, 32, onset_at=None, revision=2))
    assert set(run.hours(1).values()) == {0}


def test_hours_mature_when_the_slowest_source_has_told_everything() -> None:
    run = stay(hours=3).tell(progress("p", 1 + 6 + 72))
    assert [run.label(1, hour).final for hour in range(3)] == [True, False, False]
    run.tell(progress("p", 2 + 6 + 72))
    assert [run.label(1, hour).final for hour in range(3)] == [True, True, False]
    run.tell(progress("q", 1 + 6 + 72, source="coders"), progress("p", 0))
    assert [run.label(1, hour).final for hour in range(3)] == [True, False, False]
    run.tell(progress("q", 200, source="coders"), progress("p", 200))
    assert [run.label(1, hour).final for hour in range(3)] == [True, True, True]


def test_the_lag_is_a_setting_and_a_life_with_another_restates_what_was_said() -> None:
    run = stay(hours=3).tell(progress("p", 1 + 6 + 72))
    run.restart(rule=Rule(lag=0)).tell(tick(3))
    assert [run.label(1, hour).final for hour in range(3)] == [True, True, True]
    run.restart(rule=Rule(lag=73 * HOUR)).tell(tick(3))
    assert [run.label(1, hour).final for hour in range(3)] == [False, False, False]


def test_exposure_stands_at_the_hour_of_the_alert() -> None:
    run = stay().tell(alert(1, 3.5, number=7))
    assert [hour for hour in range(12) if run.label(1, hour).raised] == [3]
    run.tell(
        feedback("a", 7, 5, reason="no-time", actions=[done("lactate", 4.5)]),
        feedback("b", 7, 4, verdict=Verdict.CONFIRMED, actions=[done("review", 4.2)]),
    )
    label = run.label(1, 3)
    assert (label.shown, label.answered_at, label.acted_at) == (True, at(4), at(4.2))
    assert (label.verdict, label.reason) == ("dismissed", "no-time"), "the latest answer"
    assert not any(run.label(1, hour).shown for hour in range(12) if hour != 3)


def test_an_alert_before_its_prediction_is_as_good_as_one_after_it() -> None:
    run = Run().tell(tick(0), alert(1, 0.5, number=7), scored(1, 0.5), tick(1))
    label = run.label(1, 0)
    assert (label.raised, label.first_alert) == (True, True)


@pytest.mark.parametrize("step", ["escalated", "cleared", "withdrawn"])
def test_only_the_step_that_raises_makes_an_alert(step: str) -> None:
    run = stay().tell(alert(1, 3.5, number=7), alert(1, 5.5, number=7, step=step))
    assert [hour for hour in range(12) if run.label(1, hour).raised] == [3]
    assert [hour for hour in range(12) if run.label(1, hour).first_alert] == [3]


@pytest.mark.parametrize("kind", ["feedback", "outcome"])
def test_the_same_id_again_changes_nothing_whatever_it_says(kind: str) -> None:
    run = stay().tell(alert(1, 3.5, number=7))
    if kind == "feedback":
        one, topic = feedback("x", 7, 4), "feedback.v1"
        other: msgspec.Struct = msgspec.structs.replace(one, verdict=Verdict.CONFIRMED)
    else:
        told, topic = outcome("x", 1, 30), "outcomes.v1"
        one, other = told, msgspec.structs.replace(told, onset_at=at(8))  # type: ignore[assignment]  # either kind
    run.tell(one)
    said = len(run.outputs)
    again = msgspec.structs.replace(one, received_at=at(31), accepted_at=5)
    run.tell(again).restart().tell(again, other)
    assert len(run.outputs) == said
    assert (run.counts[topic, "repeated"], run.counts[topic, "conflict"]) == (2, 1)


def test_an_id_is_its_sources_own() -> None:
    run = stay().tell(outcome("x", 1, 30), outcome("x", 1, 30, source="other", onset_at=at(8)))
    assert run.counts["outcomes.v1", "conflict"] == 0


def test_what_nobody_knows_yet_is_held_and_then_joined() -> None:
    run = Run().tell(tick(0), feedback("f", 7, 1), outcome("o", 1, 30, onset_at=at(5.5)))
    assert run.counts["feedback.v1", "held"] == run.counts["outcomes.v1", "held"] == 1
    run.restart().tell(alert(1, 0.5, number=7), scored(1, 0.5), tick(1))
    label = run.label(1, 0)
    assert (label.label, label.verdict, label.final) == (1, "dismissed", True)
    assert run.dead() == []


def test_what_nobody_ever_knows_is_a_dead_letter_after_seven_days() -> None:
    log = records([tick(1), feedback("f", 7, 1), outcome("o", 1, 1)])
    run = Run().take(log).tell(tick(7 * 24 + 0.9))
    assert run.dead() == []
    assert len(run.rows) == 3
    run.restart().tell(tick(7 * 24 + 1.1))
    dead = {(d.topic, d.offset, d.reason, d.place) for d in run.dead()}
    assert dead == {
        ("feedback.v1", 0, "ALERT_UNKNOWN", "alert_id"),
        ("outcomes.v1", 0, "ENCOUNTER_UNKNOWN", "encounter"),
    }
    assert list(run.rows) == [b"progress"]
    run.tell(feedback("f", 7, 1))
    assert len(run.dead()) == 3, "it comes too late to be held again"


def test_what_is_held_is_known_by_its_id_in_the_next_life_too() -> None:
    run = stay().tell(feedback("f", 99, 1)).restart()
    run.tell(feedback("f", 99, 1), feedback("f", 98, 1))
    assert (run.counts["feedback.v1", "repeated"], run.counts["feedback.v1", "conflict"]) == (1, 1)
    assert sum(key.startswith(b"held/") for key in run.rows) == 1


def test_an_outcome_of_another_patient_than_the_encounters_is_of_nobody_known() -> None:
    run = stay().tell(outcome("o", 1, 12, pseudonym=person(2), onset_at=at(6)))
    assert run.counts["outcomes.v1", "held"] == 1
    assert set(run.hours(1).values()) == {0}


def test_a_stay_is_forgotten_seven_days_after_its_last_hour() -> None:
    run = stay(hours=3).tell(tick(3 + 7 * 24 - 0.1))
    run.tell(outcome("o", 1, 3 + 7 * 24, onset_at=at(8)))
    assert run.label(1, 2).label == 1
    run.tell(tick(3 + 7 * 24))
    assert list(run.rows) == [b"progress"]
    said = len(run.labelled())
    run.tell(scored(1, 2.5, 0.9), alert(1, 2.5, number=9), outcome("p", 1, 3 + 7 * 24))
    assert len(run.labelled()) == said
    assert run.counts["predictions.v1", "too_late"] == run.counts["alerts.v1", "too_late"] == 1
    run.tell(outcome("o", 1, 3 + 7 * 24, onset_at=at(8)))
    assert run.counts["outcomes.v1", "held"] == 2, "of a stay that is forgotten all is"


def test_a_patient_of_whom_nothing_new_is_known_costs_no_row() -> None:
    run = stay(hours=3)
    run.tell(scored(1, 2.9, 0.125))
    assert list(run.task.changes()) == []
    rows = dict(run.rows)
    run.tell(scored(2, 2.9))
    assert {key for key, row in run.rows.items() if rows.get(key) != row} == {person(2) * 2}


def test_a_row_of_two_days_is_small() -> None:
    run = stay(hours=48).tell(alert(1, 3.5, number=7), feedback("f", 7, 4), outcome("o", 1, 60))
    assert len(run.rows[person(1) * 2]) < 1500


BAD_COLUMNS = {
    "scores": b"\0",
    "pseudonyms": b"",
    "cohorts": b"\0\0",
    "cohort_labels": [],
    "measured_at": packed([1 << 62], "<i8"),
    "entries": -1,
    "watermark": 1 << 62,
    "thresholds": packed([float("nan")], "<f4"),
}


@pytest.mark.parametrize("column", BAD_COLUMNS)
def test_a_malformed_batch_is_a_dead_letter_and_nothing_else_stops(column: str) -> None:
    good = batch([Scored(who=2, at=at(0.5))], watermark=at(1))
    bad = msgspec.structs.replace(good, **{column: BAD_COLUMNS[column]})
    run = Run().tell(tick(0), scored(1, 0.5), bad, tick(1))
    assert [d.topic for d in run.dead()] == ["predictions.v1"]
    assert list(final(run.labelled())) == [(person(1), at(0))]


FAR = 1 << 62
BAD_EVENTS = {
    "an alert of nobody": alert(1, 0.5, number=1, pseudonym=b"short"),
    "an alert at no time": alert(1, 0.5, number=1, measured_at=FAR),
    "an answer at no time": feedback("f", 7, 1, answered_at=FAR),
    "an action at no time": feedback("f", 7, 1, actions=[done("lactate", 10**8)]),
    "an outcome of nobody": outcome("o", 1, 1, pseudonym=b""),
    "an outcome of no encounter": outcome("o", 1, 1, encounter=b"12345"),
    "an onset at no time": outcome("o", 1, 1, onset_at=-FAR),
    "progress to no time": msgspec.structs.replace(progress("p", 1), complete_through=FAR),
}


@pytest.mark.parametrize("what", BAD_EVENTS)
def test_an_event_that_makes_no_sense_is_a_dead_letter_and_changes_nothing(what: str) -> None:
    run = stay()
    rows, said = dict(run.rows), len(run.labelled())
    run.tell(BAD_EVENTS[what])
    (dead,) = run.dead()
    assert dead.reason in {"AVRO_SYNTAX", "NUM_RANGE"}
    assert dead.payload == b""
    assert (run.rows, len(run.labelled())) == (rows, said)


@pytest.mark.parametrize("topic", ["predictions.v1", "alerts.v1", "feedback.v1", "outcomes.v1"])
@pytest.mark.parametrize("value", [None, b"", b"nonsense", b"\xc3\x01"])
def test_bytes_that_are_no_message_are_a_dead_letter(topic: str, value: bytes | None) -> None:
    run = stay()
    run.take([Record(topic, 0, 99, T0 // 1000, None, value)])
    assert [(d.topic, d.offset) for d in run.dead()] == [(topic, 99)]


def test_a_message_of_another_topic_is_a_dead_letter() -> None:
    run = stay()
    (record,) = records([feedback("f", 7, 1)])
    run.take([msgspec.structs.replace(record, topic="outcomes.v1")])
    assert [d.reason for d in run.dead()] == ["SCHEMA_UNKNOWN"]


def test_a_schema_that_nobody_here_knows_stops_the_process() -> None:
    with pytest.raises(Stop):
        stay().take([Record("alerts.v1", 0, 0, 0, None, b"\xc3\x01" + bytes(20))])


def test_topics_must_have_one_number_of_partitions() -> None:
    check_partitions({"a": 4, "b": 4})
    with pytest.raises(CommandError, match="one number of partitions"):
        check_partitions({"a": 4, "b": 3})
