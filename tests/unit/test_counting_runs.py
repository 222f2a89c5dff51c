"""Counting in runs: batches that come together give what each alone gives, byte for byte."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec
from batches import DAY, HOUR, MINUTE, Scored, batch
from builders import codec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import Refusal
from services.core.events import Cause, Decision, Disposition, Kind, PredictionBatch, Role, packed
from services.core.folds.hours import HourFold
from services.monitoring.counting import CountTask
from services.runtime.ports import Output, Record, Row

CODEC = codec()

ENTRIES = st.builds(
    Scored,
    who=st.integers(1, 5),
    at=st.integers(-8, 3 * 24 * 4).map(lambda quarter: quarter * 15 * MINUTE),
    values=st.dictionaries(
        st.sampled_from(["HR", "Temp", "MAP", "Lactate"]), st.sampled_from([1.0, 36.6, 80.1])
    ),
    score=st.sampled_from([0.1, 0.5, 0.9]),
    kind=st.sampled_from([Kind.OBSERVATION] * 4 + [Kind.RETRACTION, Kind.TICK]),
    disposition=st.sampled_from([Disposition.SCORED] * 3 + list(Disposition)),
    cause=st.sampled_from([Cause.NONE, Cause.NONE, Cause.UNUSABLE]),
    decision=st.sampled_from([Decision.NONE, Decision.RAISED]),
    cohorts=st.fixed_dictionaries(
        {}, optional={"unit": st.sampled_from(["ICU", "ER"]), "sex": st.sampled_from(["f", "m"])}
    ),
).map(lambda entry: entry if entry.kind is Kind.OBSERVATION else replace(entry, values={}))

HOURS = st.none() | st.integers(0, 4 * 24).map(lambda hour: hour * HOUR)


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """A record: mostly a batch as scoring writes it."""
    entries = draw(st.lists(ENTRIES, max_size=4))
    role = draw(st.sampled_from([Role.SHOWN] * 4 + [Role.SHADOW]))
    made = batch(entries, watermark=draw(HOURS), role=role)
    spoiled: list[dict[str, object]] = [
        {"scores": packed([float("nan")] * len(entries), "<f4")},
        # Of two such that lie together, the bytes are as many as they should be.
        {"values": made.values + bytes(8)},
        {"values": made.values[8:]},
        {"cohort_labels": made.cohort_labels[:-1]},
        {"cohort_dimensions": [], "cohort_labels": [], "cohorts": b""},
    ]
    chosen = draw(st.integers(0, 11))
    if chosen == 0:
        return b"no batch"
    if chosen <= len(spoiled):
        made = msgspec.structs.replace(made, **spoiled[chosen - 1])
    return CODEC.encode(made)


def records(values: Sequence[bytes]) -> list[Record]:
    """Offsets have gaps, as markers of transactions leave them."""
    return [Record("predictions.v1", 0, 2 * i, 0, None, value) for i, value in enumerate(values)]


def task(rows: Sequence[Row] = ()) -> CountTask[PredictionBatch]:
    made = CountTask(HourFold(0, lambda _: None), PredictionBatch, CODEC)
    for key, value in rows:
        made.load(key, value)
    return made


def told(
    counting: CountTask[PredictionBatch], parts: Sequence[list[Record]], kept_after: set[int]
) -> Iterator[Output | Row]:
    """Outputs in order, and all rows wherever they are kept."""
    done = 0
    for part in parts:
        yield from counting.handle(part)
        done += len(part)
        if done in kept_after:
            yield from counting.changes()
    yield from counting.flush()
    yield from counting.changes()


@settings(max_examples=300, deadline=None)
@given(st.lists(batches(), max_size=25), st.sets(st.integers(0, 24)))
def test_batches_that_come_together_are_counted_as_one_by_one(
    values: list[bytes], cuts: set[int]
) -> None:
    log = records(values)
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(log)), len(log)]
    parts = [log[start:stop] for start, stop in pairwise(edges)]
    together = told(task(), parts, set(edges))
    alone = told(task(), [[record] for record in log], set(edges))
    assert list(together) == list(alone)


@settings(max_examples=150, deadline=None)
@given(st.lists(batches(), min_size=1, max_size=25), st.data())
def test_what_windows_had_counted_before_a_crash_is_counted_once_in_runs_too(
    values: list[bytes], data: st.DataObject
) -> None:
    """Rows of windows may be ahead of the clock's, and each other's: the flush was cut off."""
    log = records(values)
    kept, ahead = sorted(data.draw(st.tuples(*[st.integers(0, len(log))] * 2)))
    first = task()
    list(first.handle(log[:kept]))
    rows = list(first.changes())
    list(first.handle(log[kept:ahead]))
    newer = list(first.changes())
    rows += newer[: data.draw(st.integers(0, len(newer)))]
    again = log[data.draw(st.integers(0, kept)) :]
    together = told(task(rows), [again], set())
    assert list(together) == list(told(task(rows), [[record] for record in again], set()))


def test_a_run_ends_where_time_moves_on_so_that_windows_close_as_they_were_then() -> None:
    """Day 0 takes what comes until two days are over; what follows that in a run is too late."""
    early = batch([Scored(who=1, at=HOUR)], watermark=0)
    closing = batch([Scored(who=2, at=HOUR)], watermark=2 * DAY)
    late = batch([Scored(who=3, at=HOUR)], watermark=2 * DAY)
    fold = HourFold(0, lambda _: None)
    run = [(0, early), (1, early), (2, closing), (3, late), (4, late)]
    taken = []
    while run:
        taken.append(fold.take_run(run))
        run = run[taken[-1] :]
    assert taken == [1, 2, 2]
    [first, *_] = fold.due()
    assert (first.start, first.through_offset) == (0, 4)


def test_a_batch_that_is_refused_takes_none_of_its_run_with_it() -> None:
    good = batch([Scored(who=1, at=HOUR)], watermark=None)
    bad = msgspec.structs.replace(good, values=bytes(8))
    fold = HourFold(0, lambda _: None)
    run, refused, counted = [(0, good), (1, good), (2, bad), (3, good), (4, good)], [], 0
    while run:
        try:
            taken = fold.take_run(run)
        except Refusal:
            refused.append(run[0][0])
            taken = 1
        else:
            counted += taken
        run = run[taken:]
    assert (refused, counted) == ([2], 4)
