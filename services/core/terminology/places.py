"""Words that names of units are made of: what a name must be to leave the PHI zone in clear."""

import re
from typing import Final

from services.core.terminology.table import Sheet, overlaid

TABLE: Final = "places.csv"
COLUMNS: Final = ("word", "meaning")
LONGEST: Final = 40
"""No name of a unit has more characters."""
_WORD: Final = re.compile(r"[a-z0-9]{1,20}")
_BETWEEN: Final = re.compile(r"[ ._-]")
_NUMBER: Final = re.compile(r"[0-9]{1,2}[a-z]?|[a-z][0-9]{0,2}")


class Places:
    """Tells names of units from whatever else may stand in their place."""

    def __init__(self, words: frozenset[str]) -> None:
        """Take the words, in small letters."""
        self._words = words

    def is_unit(self, name: str) -> bool:
        """Say whether a name is made of known words, and of a number or letter at most.

        A person, a bed or an address may stand where the name of a unit belongs: what is not made
        of known words is told as a keyed hash.

        >>> places = Places(frozenset({"icu", "ward"}))
        >>> [places.is_unit(name) for name in ("ICU-2", "Ward B", "Ward of Zebediah", "2")]
        [True, True, False, False]
        """
        if len(name) > LONGEST:
            return False
        parts = [part for part in _BETWEEN.split(name.lower()) if part]
        others = [part for part in parts if part not in self._words]
        return len(others) < min(len(parts), 2) and all(map(_NUMBER.fullmatch, others))


def parse_places(sheet: Sheet) -> Places:
    """Read `places.csv`.

    Raises:
        BadRow: a word is none of 1 to 20 small letters and digits, or stands twice.
    """
    words: set[str] = set()
    for row in overlaid(sheet, COLUMNS, ("word",)):
        word = row.text("word")
        if not _WORD.fullmatch(word):
            row.refuse("a word is 1 to 20 small letters and digits")
        if word in words:
            row.refuse("a second row for this word")
        words.add(word)
    return Places(frozenset(words))
