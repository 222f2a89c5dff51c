"""Whatever comes first, and wherever a life ends, the labels are the same."""

from itertools import pairwise
from typing import Any

from batches import Scored, batch
from hypothesis import given, settings
from hypothesis import strategies as st
from joining import (
    Run,
    alert,
    at,
    done,
    feedback,
    fields,
    final,
    outcome,
    progress,
    records,
)

from services.core.events import (
    Alert,
    Authority,
    Feedback,
    HourLabel,
    Outcome,
    PredictionBatch,
    Verdict,
)
from services.core.windows import HOUR
from services.labelling.outputs import FEEDBACK, OUTCOMES
from services.runtime.ports import Record

SPAN_H = 30
LAG_H = 72
PATIENTS = (1, 2)
Parts = tuple[list[PredictionBatch], list[Alert], list[Feedback], list[Outcome]]
Final = dict[tuple[bytes, int], dict[str, Any] | None]

hours = st.integers(0, 4 * SPAN_H).map(lambda quarters: quarters / 4)
patients = st.sampled_from(PATIENTS)


@st.composite
def predictions(draw: st.DrawFn) -> list[PredictionBatch]:
    """Batches that rise in time with their watermarks, some entries late, some hours skipped."""
    made, now = [], 0.0
    for _ in range(draw(st.integers(1, 6))):
        entries = draw(
            st.lists(
                st.builds(
                    Scored,
                    who=patients,
                    at=hours.map(at),
                    score=st.sampled_from([0.125, 0.25, 0.75]),
                    cohorts=st.sampled_from([{"unit": "micu"}, {"unit": "sicu"}]),
                ),
                max_size=4,
            )
        )
        now += draw(st.integers(0, 8))
        made.append(batch(entries, watermark=at(now)))
    # In the end every hour is over.
    return [*made, batch([], watermark=at(SPAN_H + 2))]


@st.composite
def alerts(draw: st.DrawFn) -> list[Alert]:
    many = draw(st.integers(0, 4))
    return [
        alert(draw(patients), draw(hours), number=n, late_h=draw(st.integers(0, 3)))
        for n in range(many)
    ]


@st.composite
def answers(draw: st.DrawFn) -> list[Feedback]:
    """To alerts that there may be, and to some that there are not."""
    return [
        feedback(
            f"answer {n}",
            draw(st.integers(0, 5)),
            draw(hours),
            verdict=draw(st.sampled_from(Verdict)),
            reason=draw(st.sampled_from(["", "no-time"])),
            actions=[done("lactate", draw(hours))] if draw(st.booleans()) else [],
        )
        for n in range(draw(st.integers(0, 4)))
    ]


@st.composite
def outcomes(draw: st.DrawFn) -> list[Outcome]:
    """Of patients that there may be, with revisions, and progress of two sources."""
    told = [
        outcome(
            f"outcome {n}",
            draw(st.sampled_from([*PATIENTS, 3])),
            draw(hours),
            authority=draw(st.sampled_from(Authority)),
            revision=draw(st.integers(0, 2)),
            onset_at=draw(st.none() | hours.map(at)),
            recognized_at=draw(st.none() | hours.map(at)),
        )
        for n in range(draw(st.integers(0, 4)))
    ]
    done_by = [
        progress(f"progress {n}", LAG_H + 7 + draw(hours), source=draw(st.sampled_from("ab")))
        for n in range(draw(st.integers(0, 3)))
    ]
    return draw(st.permutations([*told, *done_by]))


@st.composite
def logs(draw: st.DrawFn) -> Parts:
    """One log per topic."""
    return draw(predictions()), draw(alerts()), draw(answers()), draw(outcomes())


@st.composite
def interleaved(draw: st.DrawFn, parts: Parts) -> list[Record]:
    """One order of all logs that keeps the order within each."""
    every: list[list[Any]] = [*parts]
    turns = [place for place, part in enumerate(every) for _ in part]
    queues = [list(records(part)) for part in every]
    return [queues[place].pop(0) for place in draw(st.permutations(turns))]


def labels_of(run: Run) -> Final:
    last = final(run.labelled())
    return {key: fields(each.now) for key, each in last.items()}


def by_definition(parts: Parts) -> Final:
    """The labels of everything, by the words of docs/labels.md, all being known."""
    entries: list[tuple[bytes, int, float, float]] = []
    for made in parts[0]:
        columns = zip(
            *(memoryview(made.measured_at).cast("q"), memoryview(made.scores).cast("f")),
            memoryview(made.thresholds).cast("f"),
            strict=True,
        )
        for place, (when, score, threshold) in enumerate(columns):
            who = made.pseudonyms[16 * place : 16 * place + 16]
            entries.append((who, when - when % HOUR, score, threshold))
    found: Final = {}
    for who, hour in {(who, hour) for who, hour, _, _ in entries}:
        told = [(s, t) for w, h, s, t in entries if (w, h) == (who, hour)]
        scored = {h for w, h, _, _ in entries if w == who}
        found[who, hour] = fields(label_by_definition(who, hour, max(told), scored, parts))
    return found


def label_by_definition(
    who: bytes,
    hour: int,
    top: tuple[float, float],
    scored: set[int],
    parts: Parts,
) -> HourLabel:
    mine = [a for a in parts[1] if a.pseudonym == who]
    raised = sorted(
        (a for a in mine if a.measured_at - a.measured_at % HOUR in scored),
        key=lambda a: (a.received_at, a.alert_id),
    )
    here = [a.alert_id for a in raised if a.measured_at - a.measured_at % HOUR == hour]
    said = sorted(
        (f for f in parts[2] if f.alert_id in here),
        key=lambda f: (f.answered_at, f.source, f.feedback_id),
    )
    told = parts[3]
    ranked = sorted(
        (o for o in told if o.pseudonym == who),
        key=lambda o: (list(Authority).index(o.authority), o.revision, o.outcome_id),
    )
    best = ranked[-1] if ranked else None
    onset_at = best.onset_at if best else None
    onset_hour = None if onset_at is None else onset_at - onset_at % HOUR
    through: dict[str, int] = {}
    for o in told:
        if o.complete_through is not None:
            through[o.source] = max(o.complete_through, through.get(o.source, 0))
    mature = bool(through) and hour + (7 + LAG_H) * HOUR <= min(through.values())
    is_final = mature or (best is not None and best.authority is Authority.FINAL)
    first = raised[0] if raised else None
    is_first = first is not None and first.measured_at - first.measured_at % HOUR == hour
    marked = max((h for h in scored if onset_hour is not None and h <= onset_hour), default=None)

    def lead(end: int | None) -> int | None:
        timed = onset_at is not None and end is not None and (is_first or hour == marked)
        return (end - first.received_at) // 1_000_000 if timed and first and end else None

    label = 0
    if onset_hour is not None and hour >= onset_hour:
        label = -1
    elif onset_hour is not None and hour >= onset_hour - 6 * HOUR:
        label = 1
    spoke = bool(said) and said[-1].verdict is not Verdict.UNSURE and not is_final
    began = min(scored | {a.measured_at - a.measured_at % HOUR for a in mine})
    return HourLabel(
        score=top[0],
        threshold=top[1],
        above=top[0] >= top[1],
        raised=bool(here),
        first_alert=is_first,
        label=label,
        final=is_final,
        onset=hour == marked,
        lead_s=lead(onset_at),
        recognition_lead_s=lead(best.recognized_at if best else None),
        treatment_lead_s=None,
        shown=bool(said),
        answered_at=said[0].answered_at if said else None,
        verdict=said[-1].verdict if said else "",
        reason=said[-1].reason if said else "",
        acted_at=min((a.at for f in said for a in f.actions), default=None),
        authority=best.authority if best else ("clinician" if spoke else ""),
        from_start=onset_hour is not None and onset_hour - 6 * HOUR <= began,
    )


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_order_of_topics_gives_the_labels_of_the_definition(data: st.DataObject) -> None:
    parts = data.draw(logs())
    expected = by_definition(parts)
    for _ in range(2):
        run = Run().take(data.draw(interleaved(parts)))
        assert labels_of(run) == expected
        assert run.dead() == []


@given(st.data())
@settings(max_examples=75, deadline=None)
def test_answers_and_outcomes_may_come_in_any_order(data: st.DataObject) -> None:
    parts = data.draw(logs())
    log = data.draw(interleaved(parts))
    told = [record for record in log if record.topic in {FEEDBACK, OUTCOMES}]
    shuffled = iter(data.draw(st.permutations(told)))
    other = [next(shuffled) if record.topic in {FEEDBACK, OUTCOMES} else record for record in log]
    assert labels_of(Run().take(log)) == labels_of(Run().take(other))


@given(st.data())
@settings(max_examples=75, deadline=None)
def test_said_twice_is_said_once(data: st.DataObject) -> None:
    parts = data.draw(logs())
    log = data.draw(interleaved(parts))
    told = [record for record in log if record.topic in {FEEDBACK, OUTCOMES}]
    again = data.draw(st.lists(st.sampled_from(told), max_size=3)) if told else []
    run = Run().take(log)
    said = len(run.outputs)
    assert len(run.take(again).outputs) == said


@given(st.data())
@settings(max_examples=75, deadline=None)
def test_a_life_that_ends_anywhere_is_continued_to_the_same_bytes(data: st.DataObject) -> None:
    log = data.draw(interleaved(data.draw(logs())))
    whole = Run().take(log)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(log)), max_size=4)))
    hurt = Run()
    for start, end in pairwise([0, *cuts, len(log)]):
        hurt.restart().take(log[start:end])
    assert hurt.outputs == whole.outputs
    assert hurt.rows == whole.rows


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_how_records_are_cut_into_batches_does_not_matter(data: st.DataObject) -> None:
    log = data.draw(interleaved(data.draw(logs())))
    whole, single = Run().take(log), Run()
    for record in log:
        single.take([record])
    assert single.outputs == whole.outputs
    assert single.rows == whole.rows


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_in_the_end_everything_is_forgotten(data: st.DataObject) -> None:
    log = data.draw(interleaved(data.draw(logs())))
    run = Run().take(log)
    run.take(records([batch([], watermark=at(SPAN_H + 8 * 24))], first=1000))
    assert list(run.rows) == [b"progress"]
    unknown = {d.reason for d in run.dead()}
    assert unknown <= {"ALERT_UNKNOWN", "ENCOUNTER_UNKNOWN"}
    held = run.counts[FEEDBACK, "held"] + run.counts[OUTCOMES, "held"]
    assert len(run.dead()) <= held
