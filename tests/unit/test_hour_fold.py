"""The fold of patient-hours, held to its definition whatever the order, the cut and the crash."""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import msgspec
import numpy as np
import pytest
from batches import DAY, HOUR, MINUTE, Scored, batch, person
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.baseline import (
    VITAL_FEATURES,
    Baseline,
    CohortReference,
    FeatureReference,
)
from services.core.cohorts import GROUP_DIMENSIONS
from services.core.errors import Reason, Refusal
from services.core.events import (
    Cause,
    Decision,
    Disposition,
    Kind,
    PredictionBatch,
    Role,
    Tally,
    packed,
)
from services.core.folds.hours import HourFold
from services.core.folds.patients import PatientHours, label_of
from services.core.tallies import (
    EMPTY,
    CohortTally,
    GroupTally,
    HourTally,
    decode,
    merge,
    merged,
)
from services.core.vitals import VITALS
from services.core.windows import Window

EDGES = {"HR": [70.0, 80.0, 90.0], "Temp": [36.6, 37.1], "MAP": [65.0]}


def reference(names: Sequence[str]) -> CohortReference:
    def feature(name: str) -> FeatureReference:
        edges = tuple(EDGES.get(name, [0.5]))
        weights = (1.0,) * (len(edges) + 1)
        return FeatureReference(
            edges=edges, weights=weights, patients=len(weights), mean=0, sd=1, nulls=()
        )

    return CohortReference(patients=4, hours=9, features={name: feature(name) for name in names})


BASELINE = Baseline(
    kind="site",
    name="simple",
    cohorts={
        "all": reference([*EDGES, *(f"{name}.presence" for name in VITALS)]),
        "unit=ICU": reference(["HR", "HR.presence"]),
    },
)


def fold(partition: int = 0, *, origin: int = 0) -> HourFold:
    return HourFold(partition, lambda _: BASELINE, origin=origin)


# What the contract says, in plain Python.


def counts(entry: Scored) -> bool:
    usable = entry.cause not in (Cause.UNUSABLE, Cause.UNREADABLE)
    scored = entry.disposition is Disposition.SCORED
    abstained = entry.disposition is Disposition.ABSTAINED and usable
    return entry.kind is not Kind.TICK and (scored or abstained)


def last_values(entries: Sequence[Scored]) -> dict[tuple[int, int, str], float]:
    """By patient, hour and variable: the value measured last, of two at once the later entry."""
    kept: dict[tuple[int, int, str], tuple[int, float]] = {}
    for entry in entries:
        for name, value in entry.values.items():
            cell = (entry.who, entry.at // HOUR, name)
            if cell not in kept or entry.at >= kept[cell][0]:
                kept[cell] = (entry.at, value)
    return {cell: value for cell, (_, value) in kept.items()}


def bin_of(value: float, edges: Sequence[float]) -> int:
    rounded = [float(np.float32(edge)) for edge in edges]
    return sum(edge < float(np.float32(value)) for edge in rounded)


def cohort_tally(
    cells: dict[tuple[int, int, str], float], new: set[int], features: dict[str, FeatureReference]
) -> CohortTally:
    hours: dict[int, set[int]] = defaultdict(set)
    for who, hour, _ in cells:
        hours[who].add(hour)
    patients, many, weights = [], [], []
    means: list[float] = []
    for name in VITALS:
        by_patient: dict[int, list[float]] = defaultdict(list)
        for (who, _, variable), value in sorted(cells.items()):
            if variable == name:
                by_patient[who].append(value)
        patients.append(len(by_patient))
        many.append(sum(map(len, by_patient.values())))
        bins = [0.0] * (len(features[name].edges) + 1) if name in features else []
        for values in by_patient.values() if bins else ():
            for value in values:
                bins[bin_of(value, features[name].edges)] += 1 / len(values)
        weights.append(bins)
        means.append(sum(float(np.mean(values)) for values in by_patient.values()))
    for name in VITALS:
        present = {w: {h for w2, h, v in cells if v == name and w2 == w} for w in hours}
        shares = [len(present[who]) / len(there) for who, there in hours.items()]
        found = [sum(1 - share for share in shares), sum(shares)]
        weights.append(found if f"{name}.presence" in features else [])
        means.append(sum(shares))
    total = sum(map(len, hours.values()))
    return CohortTally(
        patients=len(hours),
        new_patients=len(new & set(hours)),
        hours=total,
        feature_patients=[*patients, *[len(hours)] * len(VITALS)],
        feature_hours=[*many, *[total] * len(VITALS)],
        weights=weights,
        mean_sums=means,
    )


def by_definition(entries: Sequence[Scored], before: set[int]) -> HourTally:
    """The tally of one window from the entries that lie in it; `days` is left out."""
    counted = [entry for entry in entries if counts(entry)]
    people = {entry.who for entry in counted}
    last = {entry.who: entry.cohorts for entry in counted}
    cells = last_values([e for e in counted if e.kind is Kind.OBSERVATION])
    there = {who for who, _, _ in cells}
    unit = {who: last[who].get("unit", "unknown") for who in there}
    cohorts = {}
    for name in ["all", *(f"unit={u}" for u in set(unit.values()))]:
        members = {who for who in there if name in ("all", f"unit={unit[who]}")}
        known = BASELINE.cohorts.get(name)
        mine = {cell: value for cell, value in cells.items() if cell[0] in members}
        if members:
            new = members - before
            cohorts[name] = cohort_tally(mine, new, known.features if known else {})
    groups: dict[str, dict[str, GroupTally]] = {}
    for dimension in GROUP_DIMENSIONS if people else ():
        groups[dimension] = {}
        labels = {who: last[who].get(dimension, "unknown") for who in people}
        for label in set(labels.values()):
            who = {each for each in people if labels[each] == label}
            groups[dimension][label] = group_tally([e for e in counted if e.who in who])
    return HourTally(
        patients=len(people),
        new_patients=len(people - before),
        hours=len({(who, hour) for who, hour, _ in cells}),
        cohorts=cohorts,
        groups=groups,
    )


def group_tally(entries: Sequence[Scored]) -> GroupTally:
    people = {entry.who for entry in entries}
    scored = {(e.who, e.at // HOUR) for e in entries if e.disposition is Disposition.SCORED}
    above = {
        (e.who, e.at // HOUR)
        for e in entries
        if e.disposition is Disposition.SCORED and np.float32(e.score) >= np.float32(e.threshold)
    }
    return GroupTally(
        patients=len(people),
        alerted=len({e.who for e in entries if e.decision is Decision.RAISED}),
        not_scored=len(people - {who for who, _ in scored}),
        hours=len(scored),
        above=len(above),
    )


def same(one: HourTally, other: HourTally) -> None:
    """Counts to the last digit, weights to 1e-12."""

    def plain(tally: HourTally) -> object:
        cohorts = {
            k: msgspec.structs.replace(c, weights=[], mean_sums=[])
            for k, c in tally.cohorts.items()
        }
        return msgspec.structs.replace(tally, cohorts=cohorts, days=[])

    assert plain(one) == plain(other)
    for name, cohort in one.cohorts.items():
        assert len(cohort.weights) == len(VITAL_FEATURES)
        for a, b in zip(cohort.weights, other.cohorts[name].weights, strict=True):
            assert a == pytest.approx(b, abs=1e-12)
        assert cohort.mean_sums == pytest.approx(other.cohorts[name].mean_sums, rel=1e-6)


def bits(tally: HourTally) -> list[tuple[int, bytes]]:
    return [(days.patients, days.alerted) for days in tally.days]


COHORTS = st.fixed_dictionaries(
    {}, optional={"unit": st.sampled_from(["ICU", "ER"]), "sex": st.sampled_from(["f", "m"])}
)
VALUES = st.dictionaries(
    st.sampled_from(["HR", "Temp", "MAP", "EtCO2", "Lactate"]),
    st.sampled_from([36.6, 36.7, 65.0, 70.0, 80.0, 80.1, 95.0]),
    max_size=4,
)
ENTRIES = st.builds(
    Scored,
    who=st.integers(1, 6),
    at=st.integers(0, 3 * 24 * 4 - 1).map(lambda quarter: quarter * 15 * MINUTE),
    values=VALUES,
    score=st.sampled_from([0.1, 0.5, 0.9]),
    kind=st.sampled_from([Kind.OBSERVATION] * 5 + [Kind.RETRACTION, Kind.TICK]),
    disposition=st.sampled_from([Disposition.SCORED] * 3 + list(Disposition)),
    cause=st.sampled_from([Cause.NONE, Cause.NONE, Cause.TOO_OLD, Cause.UNUSABLE]),
    decision=st.sampled_from([Decision.NONE, Decision.NONE, Decision.RAISED]),
    cohorts=COHORTS,
)


def without_values(entry: Scored) -> Scored:
    """Scoring packs values of observations alone."""
    return entry if entry.kind is Kind.OBSERVATION else replace(entry, values={})


STREAMS = st.lists(ENTRIES.map(without_values), max_size=60)


def cut(entries: list[Scored], sizes: Sequence[int]) -> list[list[Scored]]:
    parts, rest = [], list(entries)
    for size in sizes:
        parts.append(rest[:size])
        rest = rest[size:]
    return [part for part in (*parts, rest) if part]


def told(folded: HourFold, parts: list[list[Scored]]) -> dict[int, Tally]:
    """By start the last tally of each window, after a watermark that closes them all."""
    folded.take(batch([], watermark=0), 0)
    for offset, part in enumerate(parts, 1):
        folded.take(batch(part, watermark=0), offset)
    folded.take(batch([], watermark=3 * DAY), len(parts) + 1)
    return {tally.start: tally for tally in folded.due()}


SIZES = st.lists(st.integers(1, 20), max_size=10)


@settings(max_examples=150, deadline=None)
@given(STREAMS, SIZES)
def test_a_tally_is_what_the_definition_says(entries: list[Scored], sizes: list[int]) -> None:
    tallies = told(fold(), cut(entries, sizes))
    assert sorted(tallies) == [0, DAY, 2 * DAY]
    before: set[int] = set()
    for start, tally in sorted(tallies.items()):
        inside = [e for e in entries if start <= e.at < start + DAY]
        same(decode(tally.body), by_definition(inside, before))
        before = {e.who for e in inside if counts(e)}


@settings(max_examples=60, deadline=None)
@given(STREAMS, SIZES, SIZES, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_neither_cut_nor_partitions_change_the_merged_tally(
    entries: list[Scored], sizes: list[int], others: list[int], home: list[int]
) -> None:
    whole = told(fold(), cut(entries, sizes))
    parts = [
        told(fold(p), cut([e for e in entries if home[e.who - 1] == p], others)) for p in range(4)
    ]
    for start, tally in whole.items():
        bodies = [decode(part[start].body) for part in parts]
        same(merged(bodies), decode(tally.body))
        same(merged(bodies[::-1]), merged(bodies))
        alerted = [int.from_bytes(b, "big").bit_count() for _, b in bits(merged(bodies))]
        assert sum(alerted) == sum(
            int.from_bytes(b, "big").bit_count() for _, b in bits(decode(tally.body))
        )


@settings(max_examples=60, deadline=None)
@given(STREAMS, st.randoms(use_true_random=False))
def test_the_order_of_different_moments_does_not_matter(
    entries: list[Scored], chance: Random
) -> None:
    """Of one moment the later entry counts, and so does the cohort of the last: keep those."""
    seen: set[tuple[int, int]] = set()
    once = [
        replace(e, cohorts={})
        for e in entries
        if (e.who, e.at) not in seen and not seen.add((e.who, e.at))  # type: ignore[func-returns-value]  # the idiom
    ]
    shuffled = list(once)
    chance.shuffle(shuffled)
    ours, theirs = told(fold(), [once] if once else []), told(fold(), [[e] for e in shuffled])
    for start, tally in ours.items():
        assert tally.body == theirs[start].body


@settings(max_examples=80, deadline=None)
@given(STREAMS, SIZES, st.data())
def test_what_was_kept_resumes_and_what_comes_again_counts_once(
    entries: list[Scored], sizes: list[int], data: st.DataObject
) -> None:
    """Rows are kept now and then, the last of them perhaps in part; records come again from any
    offset that is not behind the last complete set."""
    parts = cut(entries, sizes)
    batches = [batch(part, watermark=number * HOUR * 5) for number, part in enumerate(parts)]
    batches.append(batch([], watermark=4 * DAY))
    plain = fold()
    wanted = run(plain, batches, range(len(batches)))
    stop = data.draw(st.integers(0, len(batches)))
    kept_at = data.draw(st.integers(0, stop))
    crashing, rows = fold(), {}
    got = run(crashing, batches, range(kept_at))
    rows.update(dict(crashing.rows()))
    got |= run(crashing, batches, range(kept_at, stop))
    written = list(crashing.rows())
    rows.update(dict(written[: data.draw(st.integers(0, len(written)))]))
    resumed = fold()
    for key, row in rows.items():
        resumed.load(key, row)
    got |= run(resumed, batches, range(kept_at, len(batches)))
    assert {s: t.body for s, t in got.items()} == {s: t.body for s, t in wanted.items()}


def run(folded: HourFold, batches: list[PredictionBatch], offsets: range) -> dict[int, Tally]:
    latest: dict[int, Tally] = {}
    for offset in offsets:
        folded.take(batches[offset], offset)
        latest |= {tally.start: tally for tally in folded.due()}
    return latest


def test_merge_is_associative_and_commutative_and_nobody_is_its_identity() -> None:
    entries = [
        Scored(who=who, at=who * HOUR, values={"HR": 60.0 + who}, cohorts={"unit": "ICU"})
        for who in range(1, 7)
    ]
    one, two, three = (
        decode(told(fold(p), [[e for e in entries if e.who % 3 == p]])[0].body) for p in range(3)
    )
    same(merge(merge(one, two), three), merge(one, merge(two, three)))
    assert merge(one, two) == merge(two, one)
    assert merge(one, EMPTY) == one == merge(EMPTY, one)


def test_a_late_entry_restates_its_window_and_the_count_of_new_patients_after_it() -> None:
    folded = fold()
    folded.take(batch([], watermark=0), 0)
    folded.take(
        batch([Scored(who=1, at=DAY + HOUR, values={"HR": 80.0})], watermark=2 * DAY - 1), 1
    )
    first = {t.start: decode(t.body) for t in folded.due()}
    assert (first[0].patients, DAY in first) == (0, False)
    late = Scored(who=1, at=HOUR, values={"HR": 70.0})
    folded.take(batch([late], watermark=2 * DAY - 1), 2)
    assert list(folded.due()) == []
    folded.take(batch([], watermark=2 * DAY), 3)
    closed = {t.start: t for t in folded.due()}
    assert decode(closed[DAY].body).new_patients == 0
    assert closed[DAY].through_offset == 3


def test_a_late_entry_of_a_closed_window_is_told_when_the_next_hour_begins() -> None:
    folded = fold()
    folded.take(batch([], watermark=0), 0)
    folded.take(batch([], watermark=DAY), 1)
    assert [t.start for t in folded.due()] == [0]
    folded.take(batch([Scored(who=1, at=HOUR)], watermark=DAY + HOUR - 1), 2)
    assert list(folded.due()) == []
    folded.take(batch([], watermark=DAY + HOUR), 3)
    assert [(t.start, decode(t.body).patients) for t in folded.due()] == [(0, 1)]
    folded.take(batch([Scored(who=2, at=HOUR)], watermark=2 * DAY), 4)
    assert 0 in [t.start for t in folded.due()]
    folded.take(batch([Scored(who=3, at=HOUR)], watermark=2 * DAY + HOUR), 5)
    assert 0 not in [t.start for t in folded.due()], "its reach is over"


def test_an_idle_partition_closes_windows_and_forgets_its_rows() -> None:
    folded = fold()
    folded.take(batch([Scored(who=1, at=HOUR)], watermark=HOUR), 0)
    kept = dict(folded.rows())
    assert set(kept) == {b"0", b"clock"}
    folded.take(batch([], watermark=3 * DAY), 1)
    tallies = list(folded.due())
    assert [(t.start, decode(t.body).patients) for t in tallies] == [
        (0, 1),
        (DAY, 0),
        (2 * DAY, 0),
    ]
    assert dict(folded.rows())[b"0"] is None


def test_a_new_baseline_restates_closed_windows_with_its_bins() -> None:
    force: dict[str, Baseline | None] = {"now": None}
    folded = HourFold(0, lambda _: force["now"])
    folded.take(batch([Scored(who=1, at=HOUR, values={"HR": 75.0})], watermark=HOUR), 0)
    folded.take(batch([], watermark=DAY), 1)
    [tally] = folded.due()
    assert tally.baseline == ""
    assert decode(tally.body).cohorts["all"].weights == [[]] * len(VITAL_FEATURES)
    force["now"] = BASELINE
    folded.take(batch([], watermark=DAY + HOUR), 2)
    [tally] = folded.due()
    assert tally.baseline == BASELINE.digest
    assert decode(tally.body).cohorts["all"].weights[0] == [0, 1, 0, 0]


def test_a_shadow_model_counts_nobody_twice() -> None:
    entry = Scored(who=1, at=HOUR, values={"HR": 75.0})
    folded = fold()
    folded.take(batch([entry], watermark=0), 0)
    folded.take(batch([Scored(who=9, at=HOUR)], watermark=0, role=Role.SHADOW), 1)
    folded.take(batch([], watermark=DAY, role=Role.SHADOW), 2)
    assert [decode(t.body).patients for t in folded.due()] == [1]


def test_windows_of_any_length_and_origin_may_be_asked_for() -> None:
    folded = HourFold(0, lambda _: None, length=60 * HOUR, origin=5 * HOUR)
    folded.take(batch([Scored(who=1, at=6 * HOUR)], watermark=5 * HOUR), 0)
    folded.take(batch([Scored(who=2, at=64 * HOUR)], watermark=65 * HOUR), 1)
    [tally] = folded.due()
    assert (tally.family, tally.start, tally.end) == ("hours/60h", 5 * HOUR, 65 * HOUR)
    assert decode(tally.body).patients == 2


ONE = [Scored(who=1, at=HOUR, values={"HR": 75.0})]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"measured_at": b""}, Reason.AVRO_SYNTAX),
        ({"pseudonyms": bytes(15)}, Reason.AVRO_SYNTAX),
        ({"values": b""}, Reason.AVRO_SYNTAX),
        ({"bitmaps": packed([1 << 40], "<u8")}, Reason.AVRO_SYNTAX),
        ({"cohorts": packed([9] * 7, "<u2")}, Reason.AVRO_SYNTAX),
        ({"cohorts": b"\0"}, Reason.AVRO_SYNTAX),
        ({"entries": 2}, Reason.AVRO_SYNTAX),
        ({"entries": -1}, Reason.AVRO_SYNTAX),
        ({"values": packed([float("nan")], "<f8")}, Reason.NUM_NONFINITE),
        ({"values": packed([1e300], "<f8")}, Reason.NUM_RANGE),
        ({"scores": packed([float("inf")], "<f4")}, Reason.NUM_NONFINITE),
        ({"measured_at": packed([2**62], "<i8")}, Reason.NUM_RANGE),
    ],
)
def test_a_malformed_batch_is_refused_and_changes_nothing(
    columns: dict[str, object], reason: Reason
) -> None:
    folded = fold()
    folded.take(batch(ONE, watermark=0), 0)
    kept = dict(folded.rows())
    with pytest.raises(Refusal) as refused:
        folded.take(batch(ONE, watermark=9 * DAY, instead=columns), 1)
    assert refused.value.reason is reason
    assert dict(folded.rows()) == {}
    assert list(folded.due()) == []
    folded.take(batch([], watermark=DAY), 2)
    assert [decode(t.body).patients for t in folded.due()] == [1]
    assert kept


def test_a_batch_of_another_dictionary_of_cohorts_has_unknown_ones() -> None:
    made = batch(ONE, watermark=0)
    bare = msgspec.structs.replace(made, cohort_dimensions=[], cohort_labels=[], cohorts=b"")
    folded = fold()
    folded.take(bare, 0)
    folded.take(batch([], watermark=DAY), 1)
    [tally] = folded.due()
    assert decode(tally.body).groups["unit"] == {"unknown": GroupTally(patients=1, hours=1)}


def test_a_row_takes_little_room_for_each_patient() -> None:
    """24 h of hourly charting: seven vital signs, most with one decimal at most."""
    chance = np.random.default_rng(4)
    entries = [
        Scored(
            who=int.from_bytes(chance.bytes(16), "big"),
            at=hour * HOUR + int(chance.integers(0, 60)) * MINUTE,
            values={
                "HR": float(round(chance.normal(85, 15))),
                "O2Sat": float(min(round(chance.normal(96, 2)), 100)),
                "Temp": round(chance.normal(37, 0.6), 1),
                "SBP": float(round(chance.normal(120, 20))),
                "MAP": float(round(chance.normal(80, 12))),
                "DBP": float(round(chance.normal(65, 10))),
                "Resp": float(round(chance.normal(18, 4))),
            },
        )
        for _ in range(40)
        for hour in range(24)
    ]
    spread = [replace(e, who=entries[i - i % 24].who) for i, e in enumerate(entries)]
    folded = fold()
    folded.take(batch(spread, watermark=0), 0)
    each = len(dict(folded.rows())[b"0"] or b"") / 40
    assert each < 400


def test_a_pseudonym_of_its_own_is_one_patient() -> None:
    folded = fold()
    folded.take(
        batch([Scored(who=7, at=0), Scored(who=7, at=HOUR), Scored(who=8, at=0)], watermark=0), 0
    )
    folded.take(batch([], watermark=DAY), 1)
    [tally] = folded.due()
    assert decode(tally.body).patients == 2
    assert person(7) not in tally.body


def test_state_of_before_there_were_so_many_dimensions_is_read() -> None:
    before, hours = PatientHours(Window(0, DAY)), PatientHours(Window(0, DAY))
    before._slot(bytes(16))
    before._labels = {"female": 0, "unknown": 1, "MICU": 2}
    before._cohorts[0] = [0, 1, 1, 2, 0, 0, 0, 0]
    row = before.pack()
    parts = msgspec.msgpack.decode(zlib.decompress(row[8:]))
    parts[2] = parts[2][: 4 * 4]  # the codes, when there were four dimensions
    hours.unpack(row[:8] + zlib.compress(msgspec.msgpack.encode(parts)))
    groups = {d: label_of(labels, codes[0]) for d, (codes, labels) in hours.groups().items()}
    assert groups == {
        **dict.fromkeys(GROUP_DIMENSIONS, "unknown"),
        "sex": "female",
        "unit": "MICU",
    }
