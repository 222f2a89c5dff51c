"""Whatever comes first, and wherever a life ends, the labels are the same."""

import random
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

SPAN_H = 12
LAG_H = 72
PATIENTS = (1, 2)
Parts = tuple[list[PredictionBatch], list[Alert], list[Feedback], list[Outcome]]
Final = dict[tuple[bytes, int], dict[str, Any] | None]


class Chance:
    """Logs at random: many small collisions, which is where an order could tell."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - made-up patients, not secrets

    def hours(self) -> float:
        return self.random.randint(0, 2 * SPAN_H) / 2

    def maybe(self) -> int | None:
        return at(self.hours()) if self.random.random() < 0.7 else None

    def logs(self) -> Parts:
        """One log per topic."""
        return self.predictions(), self.alerts(), self.answers(), self.outcomes()

    def predictions(self) -> list[PredictionBatch]:
        """Batches that rise in time with their watermarks, some entries late, hours skipped."""
        rises = sorted(self.hours() for _ in range(self.random.randint(2, 12)))
        made = [
            batch([self.entry() for _ in range(self.random.randint(0, 4))], watermark=at(now))
            for now in rises
        ]
        # In the end every hour is over.
        return [*made, batch([], watermark=at(SPAN_H + 2))]

    def entry(self) -> Scored:
        return Scored(
            who=self.random.choice(PATIENTS),
            at=at(self.hours()),
            score=self.random.choice([0.125, 0.25, 0.75]),
            cohorts={"unit": self.random.choice(["micu", "sicu"])},
        )

    def alerts(self) -> list[Alert]:
        return [
            alert(
                self.random.choice(PATIENTS),
                self.hours(),
                number=number,
                late_h=self.random.randint(0, 3),
            )
            for number in range(self.random.randint(0, 6))
        ]

    def answers(self) -> list[Feedback]:
        """To alerts that there may be, and to some that there are not."""
        return [
            feedback(
                f"answer {number}",
                self.random.randint(0, 7),
                self.hours(),
                verdict=self.random.choice(list(Verdict)),
                reason=self.random.choice(["", "no-time"]),
                actions=[done("lactate", self.hours())] * self.random.randint(0, 1),
            )
            for number in range(self.random.randint(0, 6))
        ]

    def outcomes(self) -> list[Outcome]:
        """Of patients that there may be, with revisions, and progress of two sources."""
        told = [
            outcome(
                f"outcome {number}",
                self.random.choice([*PATIENTS, 3]),
                self.hours(),
                authority=self.random.choice(list(Authority)),
                revision=self.random.randint(0, 2),
                onset_at=self.maybe(),
                recognized_at=self.maybe(),
            )
            for number in range(self.random.randint(0, 6))
        ]
        told += [
            progress(f"p {number}", LAG_H + 7 + self.hours(), source=self.random.choice("ab"))
            for number in range(self.random.randint(0, 4))
        ]
        return self.random.sample(told, len(told))

    def interleaved(self, parts: Parts) -> list[Record]:
        """One order of all logs that keeps the order within each."""
        every: list[list[Any]] = [*parts]
        queues = [list(records(part)) for part in every]
        turns = [place for place, part in enumerate(every) for _ in part]
        return [queues[place].pop(0) for place in self.random.sample(turns, len(turns))]


chances = st.integers(0, 2**32).map(Chance)


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
    raised = sorted(mine, key=lambda a: (a.received_at, a.alert_id))
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


@given(chances)
@settings(max_examples=300, deadline=None)
def test_any_order_of_topics_gives_the_labels_of_the_definition(chance: Chance) -> None:
    parts = chance.logs()
    expected = by_definition(parts)
    for _ in range(2):
        run = Run().take(chance.interleaved(parts))
        assert labels_of(run) == expected
        assert run.dead() == []


@given(chances)
@settings(max_examples=100, deadline=None)
def test_answers_and_outcomes_may_come_in_any_order(chance: Chance) -> None:
    log = chance.interleaved(chance.logs())
    told = [record for record in log if record.topic in {FEEDBACK, OUTCOMES}]
    shuffled = iter(chance.random.sample(told, len(told)))
    other = [next(shuffled) if record.topic in {FEEDBACK, OUTCOMES} else record for record in log]
    assert labels_of(Run().take(log)) == labels_of(Run().take(other))


@given(chances)
@settings(max_examples=50, deadline=None)
def test_said_twice_is_said_once(chance: Chance) -> None:
    log = chance.interleaved(chance.logs())
    told = [record for record in log if record.topic in {FEEDBACK, OUTCOMES}]
    run = Run().take(log)
    said = len(run.outputs)
    assert len(run.take(chance.random.choices(told, k=3) if told else []).outputs) == said


@given(chances)
@settings(max_examples=100, deadline=None)
def test_a_life_that_ends_anywhere_is_continued_to_the_same_bytes(chance: Chance) -> None:
    log = chance.interleaved(chance.logs())
    whole = Run().take(log)
    cuts = sorted(chance.random.choices(range(len(log) + 1), k=4))
    hurt = Run()
    for start, end in pairwise([0, *cuts, len(log)]):
        hurt.restart().take(log[start:end])
    assert hurt.outputs == whole.outputs
    assert hurt.rows == whole.rows


@given(chances)
@settings(max_examples=50, deadline=None)
def test_how_records_are_cut_into_batches_does_not_matter(chance: Chance) -> None:
    log = chance.interleaved(chance.logs())
    whole, single = Run().take(log), Run()
    for record in log:
        single.take([record])
    assert single.outputs == whole.outputs
    assert single.rows == whole.rows


@given(chances)
@settings(max_examples=30, deadline=None)
def test_in_the_end_everything_is_forgotten(chance: Chance) -> None:
    run = Run().take(chance.interleaved(chance.logs()))
    run.take(records([batch([], watermark=at(SPAN_H + 8 * 24))], first=1000))
    assert list(run.rows) == [b"progress"]
    unknown = {d.reason for d in run.dead()}
    assert unknown <= {"ALERT_UNKNOWN", "ENCOUNTER_UNKNOWN"}
    held = run.counts[FEEDBACK, "held"] + run.counts[OUTCOMES, "held"]
    assert len(run.dead()) <= held
