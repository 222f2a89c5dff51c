"""Labels, folded into windows: what counts, once, whatever came first or came again."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import sub
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_hours import BEGIN, COHORTS, DIMENSIONS, chain, hour_label, labelled, progress, who

from services.core.cohorts import GROUP_DIMENSIONS, grouped
from services.core.errors import Reason, Refusal
from services.core.events import HourLabel, Labelled, Tally
from services.core.folds.labels import HORIZON_S, REACH, LabelFold
from services.core.label_tallies import (
    NOTHING,
    NUMBERS,
    Counts,
    Group,
    LabelTally,
    counts_of,
    decode,
    encode,
    merged,
    summed,
)
from services.core.windows import DAY, HOUR

DAYS = 3
KNOWN = dict(zip(DIMENSIONS, COHORTS, strict=True))
LABELS = tuple(KNOWN.get(dimension, "unknown") for dimension in GROUP_DIMENSIONS)
AFTER = BEGIN + DAYS * DAY

labels = st.builds(
    hour_label,
    score=st.floats(0, 1, width=32),
    above=st.booleans(),
    raised=st.booleans(),
    first_alert=st.booleans(),
    label=st.sampled_from((-1, 0, 1)),
    final=st.booleans(),
    onset=st.booleans(),
    lead_s=st.none() | st.integers(-40_000, 40_000),
    from_start=st.booleans(),
)
counts = st.builds(
    lambda numbers, leads: Counts._make([*numbers, tuple(sorted(leads))]),
    st.lists(st.integers(0, 1 << 40), min_size=len(NUMBERS), max_size=len(NUMBERS)),
    st.lists(st.integers(1, 90_000), max_size=3),
)
tallies = st.dictionaries(
    st.builds(
        lambda patient, unit: Group(who(patient), grouped(("female", "80+", "asian", unit))),
        st.integers(0, 3),
        st.sampled_from(("MICU", "SICU")),
    ),
    counts,
    max_size=5,
)


class Hour(NamedTuple):
    """Whose hour it is, and when."""

    patient: int
    encounter: int
    at: int


hours = st.builds(Hour, st.integers(0, 3), st.integers(0, 1), st.integers(0, DAYS * 24 - 1))
chains = st.dictionaries(
    hours, st.lists(st.none() | labels, min_size=1, max_size=3), min_size=1, max_size=12
).map(
    lambda found: [
        chain(told, patient=who.patient, encounter=who.encounter, hour=BEGIN + who.at * HOUR)
        for who, told in found.items()
    ]
)


def shuffled(told: Sequence[list[Labelled]], seed: int) -> list[Labelled]:
    """All revisions in one order that keeps that of each chain."""
    turns = [number for number, revisions in enumerate(told) for _ in revisions]
    rest = [iter(revisions) for revisions in told]
    return [next(rest[turn]) for turn in np.random.default_rng(seed).permutation(turns)]


@dataclass
class Run:
    """A fold at work: what it published, and the rows that were kept, in order."""

    fold: LabelFold = field(default_factory=lambda: LabelFold(0))
    published: list[Tally] = field(default_factory=list)
    rows: list[tuple[bytes, bytes | None]] = field(default_factory=list)

    def take(self, events: Iterable[Labelled], since: int = 0) -> None:
        for offset, event in enumerate(events, since):
            self.fold.take(event, offset)
            self.published += self.fold.due()
            self.rows += self.fold.rows()

    def standing(self) -> dict[int, LabelTally]:
        """The tally of each window that stands: the one counted furthest, the first of those."""
        found: dict[int, Tally] = {}
        for tally in [*self.published, *self.fold.due(final=True)]:
            known = found.get(tally.start)
            if known is None or tally.through_offset > known.through_offset:
                found[tally.start] = tally
        return {start: decode(tally.body) for start, tally in found.items()}


def folded(events: Iterable[Labelled]) -> dict[int, LabelTally]:
    """The tally of each day, after time has passed over all of them."""
    run = Run()
    run.take([progress(BEGIN), *events, progress(AFTER)])
    return run.standing()


def defined(told: Iterable[list[Labelled]]) -> dict[int, LabelTally]:
    """By the definition of labelled.v1: each message takes `before` out and puts `now` in."""
    lines: dict[int, dict[Group, list[Counts]]] = {
        BEGIN + day * DAY: defaultdict(list) for day in range(DAYS)
    }
    for event in (event for revisions in told for event in revisions):
        day = lines[event.hour - event.hour % DAY]
        group = day[Group(event.pseudonym, LABELS)]
        if event.before is not None:
            group.remove(counts_of(event.before, HORIZON_S))
        if event.now is not None:
            group.append(counts_of(event.now, HORIZON_S))
    return {
        start: {
            group: Counts._make(
                [
                    *map(sum, zip(*(each[:-1] for each in found), strict=True)),
                    tuple(sorted(lead for each in found for lead in each.leads)),
                ]
            )
            for group, found in day.items()
            if found
        }
        for start, day in lines.items()
    }


@given(chains, st.integers(0, 1 << 32))
def test_taking_before_out_and_now_in_leaves_the_last_revision_of_each_hour(
    told: list[list[Labelled]], seed: int
) -> None:
    assert folded(shuffled(told, seed)) == defined(told)
    assert folded(revisions[-1] for revisions in told) == defined(told)


@given(chains, st.integers(0, 1 << 32), st.integers(2, 4))
def test_partitions_add_up_to_the_whole(
    told: list[list[Labelled]], seed: int, partitions: int
) -> None:
    events = shuffled(told, seed)
    parts = [
        folded(event for event in events if event.pseudonym[0] % partitions == part)
        for part in range(partitions)
    ]
    np.random.default_rng(seed).shuffle(parts)
    for start, whole in folded(events).items():
        together: LabelTally = {}
        for part in parts:
            together = merged(part[start], together)
        assert together == whole
        assert encode(together) == encode(whole)


@given(tallies, tallies, tallies)
def test_tallies_add_in_any_order_and_nothing_adds_nothing(
    one: LabelTally, two: LabelTally, three: LabelTally
) -> None:
    assert merged(merged(one, two), three) == merged(one, merged(two, three))
    assert merged(one, two) == merged(two, one)
    assert merged(one, {}) == merged({}, one) == one


@given(tallies)
def test_a_tally_travels_unchanged(tally: LabelTally) -> None:
    assert decode(encode(tally)) == tally
    assert encode(decode(encode(tally))) == encode(tally)


@given(st.lists(labels, max_size=20))
def test_sums_do_not_depend_on_the_order_of_adding_to_the_last_digit(
    told: list[HourLabel],
) -> None:
    forward = backward = NOTHING
    for label in told:
        forward = summed((forward, counts_of(label, HORIZON_S)))
    for label in reversed(told):
        backward = summed((counts_of(label, HORIZON_S), backward))
    assert forward == backward == summed(counts_of(label, HORIZON_S) for label in told)


@settings(deadline=None)
@given(chains, st.integers(0, 1 << 32), st.data())
def test_a_crash_at_any_row_counts_nothing_twice_and_loses_nothing(
    told: list[list[Labelled]], seed: int, data: st.DataObject
) -> None:
    events = [progress(BEGIN), *shuffled(told, seed)]
    for day in range(1, DAYS + 1):
        events.insert(data.draw(st.integers(1, len(events))), progress(BEGIN + day * DAY))
    highest = BEGIN
    for place, event in enumerate(events):  # a watermark never goes back
        highest = max(highest, event.watermark or 0)
        events[place] = msgspec.structs.replace(event, watermark=highest)
    reach = data.draw(st.sampled_from((0, DAY, REACH)), label="reach")
    through = len(events)
    tail = [progress(highest + HOUR), progress(AFTER + HOUR)]
    calm = Run(LabelFold(0, reach=reach))
    calm.take(events)
    calm.take(tail, through)
    crashed = data.draw(st.integers(1, through), label="crashed before offset")
    committed = data.draw(st.integers(0, crashed), label="committed offset")
    before = Run(LabelFold(0, reach=reach))
    before.take(events[:committed])
    sure = len(before.rows)
    before.take(events[committed:crashed], committed)
    kept = data.draw(st.integers(sure, len(before.rows)), label="rows kept")
    after = Run(LabelFold(0, reach=reach), published=before.published)
    for key, row in before.rows[:kept]:
        after.fold.load(key, row)
    after.take(events[committed:], committed)
    after.take(tail, through)
    assert after.standing() == calm.standing()


@given(chains, st.integers(0, 1 << 32), st.data())
def test_rows_hold_everything(told: list[list[Labelled]], seed: int, data: st.DataObject) -> None:
    events = [progress(BEGIN), *shuffled(told, seed), progress(AFTER)]
    moved = data.draw(st.integers(1, len(events)))
    first = Run()
    first.take(events[:moved])
    second = Run(published=first.published)
    for key, row in first.rows:
        second.fold.load(key, row)
    second.take(events[moved:], moved)
    assert second.standing() == folded(shuffled(told, seed))


def test_a_revision_that_comes_again_changes_no_row() -> None:
    told = chain([hour_label(), hour_label(label=1), None])
    run = Run()
    run.take([progress(BEGIN), *told])
    again = LabelFold(0)
    for key, row in run.rows:
        again.load(key, row)
    for offset, event in enumerate(told, 1):
        again.take(event, offset)
    assert [key for key, _ in again.rows()] == [b"calendar"]


def test_an_idle_partition_closes_its_windows_empty() -> None:
    run = Run()
    run.take([progress(BEGIN + 5 * HOUR), progress(BEGIN + 2 * DAY + HOUR)])
    assert [(t.start, t.end, decode(t.body)) for t in run.published] == [
        (BEGIN, BEGIN + DAY, {}),
        (BEGIN + DAY, BEGIN + 2 * DAY, {}),
    ]
    assert all((t.family, t.layout) == ("labels/24h", "labels/1") for t in run.published)


def test_a_closed_window_is_restated_once_in_the_next_hour_of_time() -> None:
    run = Run()
    late = labelled(hour_label(), watermark=BEGIN + DAY)
    run.take([progress(BEGIN), progress(BEGIN + DAY), late, late])
    assert [decode(tally.body) for tally in run.published] == [{}]
    run.take([progress(BEGIN + DAY + HOUR), progress(BEGIN + DAY + 2 * HOUR)], 4)
    assert [len(decode(tally.body)) for tally in run.published] == [0, 1]


def test_labels_older_than_the_reach_come_too_late_and_their_rows_are_forgotten() -> None:
    run = Run()
    run.take([progress(BEGIN), labelled(hour_label())])
    keys = {key for key, row in run.rows if row is not None}
    run.take([progress(BEGIN + DAY + REACH), labelled(hour_label(), patient=1)], 2)
    run.take([progress(BEGIN + 2 * DAY + REACH)], 4)
    forgotten = {key for key, row in run.rows if row is None}
    assert len(forgotten) == 1
    assert forgotten < keys
    assert sum(who(("patient", 1)) in key for key, _ in run.rows) == 0
    assert {group.patient for group in run.standing()[BEGIN]} == {who(("patient", 0))}


def test_hours_before_the_first_window_are_not_counted() -> None:
    early = labelled(hour_label(), hour=BEGIN - HOUR)
    assert set(folded([early])) == {BEGIN + day * DAY for day in range(DAYS)}
    assert all(not tally for tally in folded([early]).values())


def test_an_hour_counts_in_the_cohorts_it_was_told_of_and_unknown_is_one() -> None:
    first = labelled(hour_label(), cohort_dimensions=["unit", "sex"], cohorts=["MICU", "male"])
    moved = labelled(hour_label(), revision=1, cohort_dimensions=["unit"], cohorts=["SICU"])
    [group] = folded([first, moved])[BEGIN]
    assert group.labels == grouped(("unknown", "unknown", "unknown", "SICU"))


@pytest.mark.parametrize(
    ("above", "label", "outcome"),
    [
        (True, 1, "true_positive"),
        (True, 0, "false_positive"),
        (False, 1, "false_negative"),
        (False, 0, "true_negative"),
    ],
)
def test_a_final_hour_before_onset_is_one_of_four_outcomes(
    *, above: bool, label: int, outcome: str
) -> None:
    found = counts_of(hour_label(score=0.25, above=above, label=label), HORIZON_S)
    assert (found.hours, found.expected, getattr(found, outcome)) == (1, 1 << 28, 1)
    assert sum(found[:-1]) == 2 + (1 << 28)


def test_an_hour_after_onset_or_with_an_open_label_is_no_outcome() -> None:
    passed = counts_of(hour_label(label=-1, raised=True), HORIZON_S)
    open_ = counts_of(hour_label(label=1, final=False, above=True), HORIZON_S)
    assert passed == Counts(hours=1, raised=1)
    assert open_ == Counts(hours=1, immature=1)


H = HORIZON_S


@pytest.mark.parametrize(
    ("lead_s", "alert", "onset"),
    [
        (None, "first_false", "missed"),
        (-60, "first_late", "missed"),
        (0, "first_late", "missed"),
        (1, "first_true", "timely"),
        (H, "first_true", "timely"),
        (H + 1, "first_false", "early"),
    ],
)
def test_a_first_alert_is_true_when_onset_follows_it_within_the_horizon(
    lead_s: int | None, alert: str, onset: str
) -> None:
    from_alert = counts_of(hour_label(first_alert=True, lead_s=lead_s, label=-1), H)
    from_onset = counts_of(hour_label(onset=True, lead_s=lead_s, label=-1), H)
    assert (from_alert.hours, getattr(from_alert, alert), sum(from_alert[:-1])) == (1, 1, 2)
    assert from_onset.leads == ((lead_s,) if onset in ("timely", "early") else ())
    assert (getattr(from_onset, onset), from_onset.led_missed) == (1, int(onset == "missed"))


def test_alerts_and_onsets_with_an_open_label_are_neither_true_nor_false() -> None:
    found = counts_of(hour_label(first_alert=True, onset=True, lead_s=60, final=False), H)
    assert found == Counts(hours=1, immature=1, first_immature=1, onset_immature=1)


@pytest.mark.parametrize("lead_s", [None, 3600])
def test_a_stay_positive_from_its_start_has_an_onset_but_no_lead_time(lead_s: int | None) -> None:
    found = counts_of(hour_label(onset=True, lead_s=lead_s, from_start=True, label=-1), H)
    assert found.missed + found.timely == 1
    assert (found.led_missed, found.leads) == (0, ())


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (labelled(hour_label(), pseudonym=b""), Reason.SUBJECT),
        (labelled(hour_label(), pseudonym=b"short"), Reason.SUBJECT),
        (msgspec.structs.replace(labelled(hour_label()), encounter=b""), Reason.SUBJECT),
        (labelled(hour_label(), hour=BEGIN + 1), Reason.TIME_FORMAT),
        (labelled(hour_label(), cohorts=["one"]), Reason.DEMOG),
        (labelled(hour_label(label=2)), Reason.RANGE),
        (labelled(hour_label(score=1.5)), Reason.RANGE),
        (labelled(hour_label(score=float("nan"))), Reason.RANGE),
    ],
)
def test_what_is_no_label_is_refused_by_its_code_and_changes_nothing(
    event: Labelled, reason: Reason
) -> None:
    run = Run()
    run.take([progress(BEGIN)])
    before = list(run.rows)
    with pytest.raises(Refusal) as refused:
        run.fold.take(msgspec.structs.replace(event, watermark=BEGIN + DAY), 1)
    assert refused.value.reason is reason
    assert [*run.rows, *run.fold.rows()] == before
    assert not list(run.fold.due(final=True))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        msgspec.msgpack.encode([[], [[b"p", [[0, list(NOTHING)]]]]]),
        msgspec.msgpack.encode([[["a"] * 4], [[b"p", [[0, [-1, *NOTHING[1:]]]]]]]),
        msgspec.msgpack.encode([[["a"] * 4], [[b"p", [[-1, list(NOTHING)]]]]]),
        msgspec.msgpack.encode([[["a"] * 3], []]),
        msgspec.msgpack.encode([[["a"] * (len(GROUP_DIMENSIONS) + 1)], []]),
        encode({Group(b"p", ("a", "b", "c", "d")): NOTHING}) + b"\x00",
    ],
)
def test_a_malformed_tally_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal):
        decode(body)


def test_a_tally_of_before_there_were_so_many_dimensions_knows_nothing_of_the_new_ones() -> None:
    old = encode({Group(b"p", ("female", "80+", "asian", "MICU")): NOTHING})
    (group,) = decode(old)
    assert dict(zip(GROUP_DIMENSIONS, group.labels, strict=True)) == {
        **dict.fromkeys(GROUP_DIMENSIONS, "unknown"),
        "sex": "female",
        "age_band": "80+",
        "race": "asian",
        "unit": "MICU",
    }


def test_what_one_hour_adds_can_be_taken_out_again() -> None:
    one = counts_of(hour_label(score=0.3, above=True), H)
    two = counts_of(hour_label(score=0.1), H)
    assert tuple(map(sub, summed((one, two))[:-1], one[:-1])) == two[:-1]
