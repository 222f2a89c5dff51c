import hashlib
import hmac
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.pseudonyms import (
    device_name,
    encounter_pseudonym,
    parse_key,
    patient_pseudonym,
    reading_id,
)

KEY = bytes(range(32))
Name = Callable[[bytes, str, str], bytes | str]
NAMES: tuple[Name, ...] = (patient_pseudonym, encounter_pseudonym, reading_id, device_name)


def test_a_patients_pseudonym_is_the_hmac_that_the_event_model_gives() -> None:
    message = b"\x00\x00\x00\x04west" + b"\x00\x00\x00\x03p-1"
    expected = hmac.new(KEY, message, hashlib.sha256).digest()[:16]
    assert patient_pseudonym(KEY, "west", "p-1") == expected


@given(source=st.text(), identifier=st.text())
def test_no_two_kinds_of_thing_share_a_name(source: str, identifier: str) -> None:
    names = [name(KEY, source, identifier) for name in NAMES]
    starts = {n[:8] if isinstance(n, bytes) else bytes.fromhex(n)[:8] for n in names}
    assert len(starts) == len(NAMES)


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), unique=True, max_size=20))
def test_no_two_people_share_a_pseudonym(people: list[tuple[str, str]]) -> None:
    names = {patient_pseudonym(KEY, source, identifier) for source, identifier in people}
    assert len(names) == len(people)


def test_the_border_between_source_and_identifier_counts() -> None:
    assert patient_pseudonym(KEY, "ab", "c") != patient_pseudonym(KEY, "a", "bc")


def test_another_key_gives_other_names() -> None:
    for name in NAMES:
        assert name(KEY, "west", "p-1") != name(bytes(32), "west", "p-1")


def test_names_have_the_lengths_of_the_wire() -> None:
    assert [len(name(KEY, "west", "p-1")) for name in NAMES] == [16, 16, 8, 16]


@pytest.mark.parametrize("text", ["", "ab", "zz" * 32, "ab" * 33, "ab " * 32])
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a key is 64 hex digits$"):
        parse_key(text)
