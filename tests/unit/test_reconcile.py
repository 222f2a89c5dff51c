"""Accounts: whatever is taken away, added or doubled leaves something unexplained."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from services.audit.reconcile import (
    EMPTY,
    ENTRIES,
    Log,
    RawAccount,
    VitalsAccount,
    entry_keys,
    fates,
    of_raw,
    of_vitals,
)

OFFSETS = np.array([2, 3, 5, 8])  # markers took the others
LOG = Log(
    topic="fhir.raw.v1",
    partition=1,
    start=2,
    horizon=10,
    end=12,
    in_kafka=OFFSETS,
    in_ledger=np.array([0, 2, 3, 5, 8, 10]),
)
# 0: dead as a whole, and no longer in Kafka. 2: vitals, vitals, dead. 3: out of scope.
# 5: a tick. 8: duplicate, vitals. 10: came after the books were opened.
RECORDS: list[tuple[int, list[str]]] = [
    (0, ["dead"]),
    (2, ["vitals", "vitals", "dead"]),
    (3, ["out_of_scope"]),
    (5, ["tick"]),
    (8, ["duplicate", "vitals"]),
    (10, ["vitals"]),
]
LINES = [(offset, at, fate) for offset, told in RECORDS for at, fate in enumerate(told)]
RAW = RawAccount(
    log=LOG,
    vitals_partitions=2,
    receipts=np.array([offset for offset, _ in RECORDS]),
    entries=entry_keys([o for o, _, _ in LINES], [e for _, e, _ in LINES]),
    fates=[fate for _, _, fate in LINES],
    covered=entry_keys([2, 2, 8], [0, 1, 1]),
    ticks=np.array([5 * 2, 5 * 2 + 1]),
    dead=entry_keys([0, 2], [-1, 2]),
)
VITALS = VitalsAccount(
    log=msgspec.structs.replace(LOG, topic="vitals.v1"),
    shown=np.array([0, 2, 3, 5, 8, 10]),
    shadow={"digest": np.array([2, 3])},
    unreadable=np.array([3]),
    dead=np.array([3]),
)


def _raw(**changes: Any) -> list[tuple[str, int, int | None]]:
    found = of_raw(msgspec.structs.replace(RAW, **changes))
    return [(one.what, one.offset, one.entry) for one in found]


def _vitals(**changes: Any) -> list[tuple[str, int, int | None]]:
    found = of_vitals(msgspec.structs.replace(VITALS, **changes))
    return [(one.what, one.offset, one.entry) for one in found]


def test_accounts_that_agree_leave_nothing_unexplained() -> None:
    assert _raw() == []
    assert _vitals() == []


def test_entries_are_counted_by_fate_and_only_those_that_must_be_explained() -> None:
    assert fates(RAW) == {
        "vitals": 3, "dead": 2, "out_of_scope": 1, "duplicate": 1, "tick": 1, "empty": 0,
    }  # fmt: skip


@pytest.mark.parametrize("field", ["receipts", "entries", "covered", "ticks", "dead"])
@pytest.mark.parametrize("change", ["without", "twice"])
def test_whatever_is_taken_away_or_doubled_is_noticed(field: str, change: str) -> None:
    numbers = getattr(RAW, field)
    for at, key in enumerate(numbers.tolist()):
        offset = key // {"receipts": 1, "ticks": 2}.get(field, ENTRIES)
        changes: dict[str, Any] = {field: np.delete(numbers, at)}
        if change == "twice":
            changes = {field: np.append(numbers, key)}
        if field == "entries":
            told = list(RAW.fates)
            changes["fates"] = told[:at] + told[at + 1 :]
            if change == "twice":
                changes["fates"] = [*told, told[at]]
        found = _raw(**changes)
        silent = change == "without" and offset >= LOG.horizon
        # An out-of-scope or duplicate entry is explained by its own line: taken away at the end
        # of its receipt, nobody is left who knows of it.
        last = field == "entries" and RAW.fates[at] == "out_of_scope"
        assert silent or last or any(place == offset for _, place, _ in found), (key, found)


@pytest.mark.parametrize(
    ("field", "place", "what"),
    [
        ("receipts", lambda o: o, "receipt without raw record"),
        ("covered", lambda o: o * ENTRIES, "vitals event without receipt"),
        ("ticks", lambda o: o * 2, "tick without receipt"),
        ("dead", lambda o: o * ENTRIES, "dead letter without receipt"),
    ],
)
def test_what_names_a_record_that_is_not_there_is_noticed_unless_it_came_meanwhile(
    field: str, place: Callable[[int], int], what: str
) -> None:
    for offset, noticed in ((4, True), (11, False), (12, True), (10**9, True)):
        found = _raw(**{field: np.append(getattr(RAW, field), place(offset))})
        assert ([(w, o) for w, o, _ in found] == [(what, offset)]) == noticed
        assert bool(found) == noticed


def test_an_entry_that_a_receipt_skips_is_missing() -> None:
    keys = RAW.entries.tolist()
    at = keys.index(2 * ENTRIES + 1)
    found = _raw(
        entries=np.delete(RAW.entries, at), fates=[f for i, f in enumerate(RAW.fates) if i != at]
    )
    assert ("entry missing in its receipt", 2, 1) in found


def test_kafka_and_the_ledger_are_held_against_each_other() -> None:
    log = msgspec.structs.replace(LOG, in_ledger=np.array([0, 2, 3, 4, 5, 12]))
    found = _raw(log=log)
    assert ("record in Kafka and not in the ledger", 8, None) in found
    assert ("record in the ledger and not in Kafka", 4, None) in found
    assert ("record in the ledger beyond Kafka's end", 12, None) in found


def test_each_vitals_offset_has_one_prediction_that_is_shown() -> None:
    assert _vitals(shown=np.array([0, 2, 3, 5])) == [("vitals record without prediction", 8, None)]
    assert _vitals(shown=np.array([0, 2, 3, 5, 5, 8])) == [
        ("vitals record with two predictions", 5, None)
    ]
    assert _vitals(shown=np.array([0, 2, 3, 4, 5, 8, 11, 12])) == [
        ("prediction without vitals record", 4, None),
        ("prediction without vitals record", 12, None),
    ]


def test_a_model_in_the_shadow_may_skip_but_never_invent_or_repeat() -> None:
    assert _vitals(shadow={}) == []
    assert _vitals(shadow={"a": np.array([2, 2, 4])}) == [
        ("shadow prediction without vitals record", 4, None),
        ("vitals record with two shadow predictions", 2, None),
    ]


def test_an_unreadable_record_and_its_dead_letter_belong_together() -> None:
    assert _vitals(dead=EMPTY) == [("unreadable record without dead letter", 3, None)]
    assert _vitals(unreadable=EMPTY) == [("dead letter of a record that was read", 3, None)]
