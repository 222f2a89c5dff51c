"""What may be told as the name of a unit, and what stands in its place where it may not."""

import re

import pytest
from builders import PSEUDONYM_KEY, encounter, read, terminology
from hypothesis import given
from hypothesis import strategies as st

from services.core.pseudonyms import place_name
from services.core.terminology.places import TABLE, parse_places
from services.core.terminology.table import BadRow, Sheet
from services.ingest.tables import read_terminology
from services.local.home import REPO

PLACES = terminology().places
NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCXYZ0123456789 ._-", min_size=1, max_size=40)


def unit_of(name: str) -> str | None:
    (event,) = read(encounter(location=[{"location": {"display": name}}]))[0]
    assert event.stay is not None
    return event.stay.unit


@pytest.mark.parametrize(
    "name", ["MICU", "ICU-NORTH", "WARD-EAST", "ICU 2", "Ward 3B", "Cardiac Care Unit", "7 East"]
)
def test_the_name_of_a_unit_is_told(name: str) -> None:
    assert unit_of(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("Zebediah", "Ward of Zebediah", "Zebediah-Smith ICU", "ICU 448812", "12-34-56-78"),
        *("ICU 2-3", "S.M.I.T.H", "ward-a-b", "2"),
    ],
)
def test_what_may_name_a_person_or_a_bed_is_told_as_a_keyed_hash(name: str) -> None:
    assert unit_of(name) == place_name(PSEUDONYM_KEY, "west", name)


@given(NAMES)
def test_nothing_but_known_words_and_one_number_ever_leaves(name: str) -> None:
    told = unit_of(name)
    if told is None or re.fullmatch(r"unit-[0-9a-f]{8}", told):
        return
    words = [word for word in re.split(r"[ ._-]+", told.lower()) if word]
    foreign = [word for word in words if not PLACES.is_unit(word)]
    assert len(foreign) <= 1
    assert all(re.fullmatch(r"\d{1,2}[a-z]?|[a-z]\d{0,2}", word) for word in foreign)


def test_the_same_name_is_the_same_unit_at_one_source_alone() -> None:
    assert place_name(PSEUDONYM_KEY, "west", "Rose") == unit_of("Rose")
    assert place_name(PSEUDONYM_KEY, "east", "Rose") != unit_of("Rose")


def test_a_site_names_its_own_words(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("site")
    (folder / TABLE).write_text("word,meaning\nrose,the pavilion\n")
    places = read_terminology(REPO / "schemas" / "terminology", folder).places
    assert places.is_unit("Rose 2")
    assert places.is_unit("ICU")
    assert not PLACES.is_unit("Rose 2")


@pytest.mark.parametrize("row", ["Icu,", "two words,", ",empty", "x" * 21 + ",", "icu,\nicu,"])
def test_a_bad_word_is_refused_with_its_line(row: str) -> None:
    with pytest.raises(BadRow, match=r"places\.csv line \d"):
        parse_places(Sheet(TABLE, f"word,meaning\n{row}\n"))
