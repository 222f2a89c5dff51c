"""The labels of one partition, folded into windows: of each hour the latest revision counts."""

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from services.core.cohorts import UNKNOWN
from services.core.errors import Reason, Refusal
from services.core.events import PSEUDONYM_BYTES, HourLabel, Labelled, Tally
from services.core.folds.calendar import Calendar
from services.core.folds.fold import FoldRow
from services.core.label_tallies import (
    DIMENSIONS,
    LAYOUT,
    NOTHING,
    Counts,
    Group,
    added,
    counts_of,
    encode,
)
from services.core.windows import DAY, HOUR, WEEK, Window

FAMILY: Final = "labels/24h"
"""What is counted, over which length."""
TOPIC: Final = "labelled.v1"
"""Where it comes from."""

_MARK: Final = struct.Struct(">q")
_KEY: Final = struct.Struct(f">q{PSEUDONYM_BYTES}s{PSEUDONYM_BYTES}s")
_CALENDAR: Final = b"calendar"


class Key(NamedTuple):
    """One encounter in one window."""

    start: int
    pseudonym: bytes
    encounter: bytes


class Hour(msgspec.Struct, frozen=True, array_like=True):
    """One hour of an encounter as its latest revision tells, and the cohorts it was in."""

    hour: int
    labels: tuple[str, ...]
    now: HourLabel


class LabelFold:
    """Counts labels by the hour they are of; satisfies `folds.fold.Fold`.

    Of each encounter and window it keeps the hours as they were told last, and not their sums:
    a revision may move an hour to another cohort, which `before` does not name. So `now` replaces
    what is kept, and a missing `now` removes it. labelled.v1 is written exactly once and in order,
    so a revision that comes again is known by its offset; its number need not be remembered.
    """

    family = FAMILY
    topic = TOPIC

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self._calendar = Calendar(DAY, WEEK)
        self._rows: dict[int, dict[Key, bytes]] = {}
        self._changed: dict[bytes, bytes | None] = {}
