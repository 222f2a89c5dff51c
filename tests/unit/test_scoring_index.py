"""The slot of a patient is found by name, whoever came and went before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.patients.sheet import NONE
from services.scoring.patients.slots import Slots
from services.scoring.patients.store import find

# Few bytes that differ, so that many names have one home.
NAMES = st.binary(min_size=1, max_size=1).map(lambda some: some.rjust(16, b"\0"))


def slot_of(slots: Slots, name: bytes) -> int:
    return find(slots.store, np.frombuffer(name, np.uint8), 0)


@given(st.lists(NAMES, max_size=300))
def test_each_patient_is_found_and_no_stranger_is(names: list[bytes]) -> None:
    slots, known = Slots(), dict[bytes, int]()
    for name in names:
        if name in known:
            slots.give_back(known.pop(name))
            assert slot_of(slots, name) == NONE
        else:
            known[name] = slots.take(name)
        assert {each: slot_of(slots, each) for each in known} == known


def test_patients_are_found_however_many_there_are() -> None:
    slots = Slots()
    random = np.random.default_rng(1)
    names = [random.bytes(16) for _ in range(5000)]
    taken = [slots.take(name) for name in names]
    assert [slot_of(slots, name) for name in names] == taken
    assert len(set(taken)) == len(names)
    assert slot_of(slots, random.bytes(16)) == NONE


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=20), st.integers(0, 5))
def test_behind_are_those_whose_rows_are_older(told: list[tuple[int, int]], number: int) -> None:
    slots, names = Slots(), [bytes([who]) * 16 for who in range(10)]
    for who, stamp in dict(told).items():
        slot = slots.take(names[who])
        slots.store.stamp[slot] = stamp
    wanted = [who for who, stamp in sorted(dict(told).items()) if stamp < number]
    assert slots.behind(b"".join(names), number) == wanted
