"""What the labels of one window add up to, by patient and cohort; partitions simply add.

A tally keeps one line for each patient and each combination of cohorts, because a bootstrap by
patient and a count of distinct patients need no less, and because at some hundred patients in a
partition this is a few kilobytes, where replicates of every cohort would be a hundred.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Annotated, Final, NamedTuple

import msgspec

from services.core.cohorts import GROUP_DIMENSIONS, grouped
from services.core.errors import Reason, Refusal
from services.core.events import HourLabel

LAYOUT: Final = "labels/1"
"""Name and version of the form of `encode`."""
SCORE_UNIT: Final = 1 << 30
"""Scores are summed as integers of this part of 1, so that every order of adding gives the same,
also in float64; each is off by 5e-10 at most."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Lead = Annotated[int, msgspec.Meta(gt=0)]
_Labels = Annotated[list[str], msgspec.Meta(min_length=4, max_length=len(GROUP_DIMENSIONS))]


class Group(NamedTuple):
    """Who is counted together: a patient, while in the same cohorts."""

    patient: bytes
    labels: tuple[str, ...]  # in the order of GROUP_DIMENSIONS


class Counts(NamedTuple):
    """What the hours of one group add up to; onsets and first alerts are of encounters.

    The four outcomes count hours before onset whose label is final; an alert is a score at or
    above the threshold there. A first alert is true if the onset came after it and within the
    horizon, late if the onset came before it, else false. An onset is timely if the first alert
    was true, early if it came longer before than the horizon, else missed.
    """

    hours: _Count = 0
    immature: _Count = 0  # hours whose label may change
    true_positive: _Count = 0
    false_positive: _Count = 0
    false_negative: _Count = 0
    true_negative: _Count = 0
    expected: _Count = 0  # sum of the scores of those four, in SCORE_UNIT
    raised: _Count = 0  # hours in which an alert was raised
    first_true: _Count = 0
    first_false: _Count = 0
    first_late: _Count = 0
    first_immature: _Count = 0
    timely: _Count = 0
    early: _Count = 0
    missed: _Count = 0
    onset_immature: _Count = 0
    led_missed: _Count = 0  # the missed whose stay was not positive from its start
    leads: tuple[_Lead, ...] = ()  # s, of the timely and the early likewise, rising


NUMBERS: Final = Counts._fields[:-1]
"""The names of all that is a number in Counts, in order."""
NOTHING: Final = Counts()
"""What no hour adds up to."""

LabelTally = Mapping[Group, Counts]
"""The labels of one window; the empty one is the identity of `merged`."""

_CELLS: Final = {
    (1, True): "true_positive",
    (0, True): "false_positive",
    (1, False): "false_negative",
    (0, False): "true_negative",
}


def counts_of(hour: HourLabel, horizon_s: int) -> Counts:
    """Count one hour of one encounter.

    Args:
        hour: its latest revision; the score is a probability.
        horizon_s: how long after an alert an onset still makes it true.
    """
    found = {"hours": 1, "immature": int(not hour.final), "raised": int(hour.raised)}
    if hour.final and hour.label >= 0:
        found[_CELLS[hour.label, hour.above]] = 1
        found["expected"] = round(hour.score * SCORE_UNIT)
    if hour.first_alert:
        found[_first_alert(hour, horizon_s)] = 1
    if hour.onset:
        found[_onset(hour, horizon_s)] = 1
    led = hour.onset and hour.final and not hour.from_start
    leads = (hour.lead_s,) if led and hour.lead_s is not None and hour.lead_s > 0 else ()
    found["led_missed"] = int(led and not leads)
    return Counts(**found, leads=leads)


def _first_alert(hour: HourLabel, horizon_s: int) -> str:
    if not hour.final:
        return "first_immature"
    if hour.lead_s is None or hour.lead_s > horizon_s:
        return "first_false"
    return "first_true" if hour.lead_s > 0 else "first_late"


def _onset(hour: HourLabel, horizon_s: int) -> str:
    if not hour.final:
        return "onset_immature"
    if hour.lead_s is None or hour.lead_s <= 0:
        return "missed"
    return "timely" if hour.lead_s <= horizon_s else "early"


def summed(counts: Iterable[Counts]) -> Counts:
    """Add up counts of distinct hours.

    >>> summed([Counts(hours=1, leads=(60,)), Counts(hours=2, leads=(30,))])[::17]
    (3, (30, 60))
    """
    *numbers, leads = zip(NOTHING, *counts, strict=True)
    return Counts._make([*map(sum, numbers), tuple(sorted(chain.from_iterable(leads)))])


def merged(one: LabelTally, other: LabelTally) -> LabelTally:
    """Add tallies of distinct hours, such as those of two partitions, or of two windows."""
    whole = dict(one)
    for group, counts in other.items():
        whole[group] = summed((whole[group], counts)) if group in whole else counts
    return whole


class _Body(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The tally as it travels: each combination of labels and each patient is named once."""

    labels: list[_Labels]
    patients: list[tuple[bytes, list[tuple[_Count, Counts]]]]


def encode(tally: LabelTally) -> bytes:
    """Write a tally as msgpack; equal tallies give equal bytes."""
    labels = sorted({group.labels for group in tally})
    place = {each: number for number, each in enumerate(labels)}
    patients: dict[bytes, list[tuple[int, Counts]]] = {}
    for group in sorted(tally):
        patients.setdefault(group.patient, []).append((place[group.labels], tally[group]))
    return msgspec.msgpack.encode([labels, list(patients.items())])


def decode(body: bytes) -> LabelTally:
    """Read a tally back.

    Raises:
        Refusal: it is none.
    """
    try:
        read = msgspec.msgpack.decode(body, type=_Body)
        labels = [grouped(each) for each in read.labels]
        return {
            Group(patient, labels[number]): counts
            for patient, lines in read.patients
            for number, counts in lines
        }
    except (msgspec.DecodeError, IndexError):
        raise Refusal(Reason.AVRO_SYNTAX, "body") from None
