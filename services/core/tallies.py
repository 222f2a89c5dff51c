"""What one partition adds to a window of patient-hours, and how such parts are put together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Final, TypeVar

import msgspec

from services.core.errors import Reason, Refusal

HOURS_LAYOUT: Final = "hours/1"
"""Name and version of the form of an HourTally's bytes."""

T = TypeVar("T")
Number = TypeVar("Number", int, float)


class CohortTally(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The patient-hours of one drift cohort.

    Attributes:
        patients: with at least one patient-hour.
        new_patients: of them, those whom the partition did not meet in the window before.
        hours: patient-hours.
        feature_patients: by feature of the family, with an hour of it (of a presence: any hour).
        feature_hours: by feature, patient-hours.
        weights: by feature, per bin of the baseline; each patient spreads 1 over its hours. Empty
            where the baseline has no such feature.
        mean_sums: by feature, the sum of the patients' means; of a presence, of their shares of
            hours that have it.
    """

    patients: int = 0
    new_patients: int = 0
    hours: int = 0
    feature_patients: list[int] = []
    feature_hours: list[int] = []
    weights: list[list[float]] = []
    mean_sums: list[float] = []


class GroupTally(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The patients of one cohort of one dimension.

    Attributes:
        patients: with at least one entry that counts.
        alerted: of them, those for whom an alert was raised.
        not_scored: of them, those who were abstained from and never scored.
        hours: in which a patient was scored.
        above: of them, those in which a score reached its threshold.
    """

    patients: int = 0
    alerted: int = 0
    not_scored: int = 0
    hours: int = 0
    above: int = 0


class PatientDays(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether each patient of one partition had an alert: one bit each, by order of pseudonym."""

    partition: int
    patients: int
    alerted: bytes


class HourTally(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A window of patient-hours, or one partition's part of it.

    Attributes:
        patients: with at least one entry that counts.
        new_patients: of them, those whom their partition did not meet in the window before.
        hours: patient-hours.
        cohorts: `all` and each `unit=<label>`.
        groups: by dimension and label.
        days: one per partition that has patients, in order of partition.
    """

    patients: int = 0
    new_patients: int = 0
    hours: int = 0
    cohorts: dict[str, CohortTally] = {}
    groups: dict[str, dict[str, GroupTally]] = {}
    days: list[PatientDays] = []


EMPTY: Final = HourTally()
"""Nobody was there: the identity of `merge`."""


def encode(tally: HourTally) -> bytes:
    """Give the bytes of a tally: the same tally gives the same bytes."""
    return msgspec.msgpack.encode(tally, order="deterministic")


def decode(body: bytes) -> HourTally:
    """Read a tally.

    Raises:
        Refusal: the bytes are none of this layout.
    """
    try:
        return msgspec.msgpack.decode(body, type=HourTally)
    except msgspec.MsgspecError:
        raise Refusal(Reason.AVRO_SYNTAX, "body") from None


def merge(one: HourTally, other: HourTally) -> HourTally:
    """Put the parts of two sets of partitions together; they have no patient in common.

    Raises:
        ValueError: they were counted in different bins.
    """
    return HourTally(
        patients=one.patients + other.patients,
        new_patients=one.new_patients + other.new_patients,
        hours=one.hours + other.hours,
        cohorts=_joined(one.cohorts, other.cohorts, _cohort),
        groups=_joined(one.groups, other.groups, _groups),
        days=sorted((*one.days, *other.days), key=lambda days: days.partition),
    )


def merged(parts: Iterable[HourTally]) -> HourTally:
    """Put any number of parts together, in the order given."""
    return reduce(merge, parts, EMPTY)


def without_bins(tally: HourTally) -> HourTally:
    """Leave out the histograms, so that parts with different bins can be put together."""
    cohorts = {
        name: msgspec.structs.replace(cohort, weights=[[]] * len(cohort.weights))
        for name, cohort in tally.cohorts.items()
    }
    return msgspec.structs.replace(tally, cohorts=cohorts)


def _joined(
    one: Mapping[str, T], other: Mapping[str, T], join: Callable[[T, T], T]
) -> dict[str, T]:
    both = {**one, **other}
    return {
        k: join(one[k], other[k]) if k in one and k in other else both[k] for k in sorted(both)
    }


def _cohort(one: CohortTally, other: CohortTally) -> CohortTally:
    return CohortTally(
        patients=one.patients + other.patients,
        new_patients=one.new_patients + other.new_patients,
        hours=one.hours + other.hours,
        feature_patients=_sums(one.feature_patients, other.feature_patients),
        feature_hours=_sums(one.feature_hours, other.feature_hours),
        weights=[_sums(a, b) for a, b in zip(one.weights, other.weights, strict=True)],
        mean_sums=_sums(one.mean_sums, other.mean_sums),
    )


def _groups(
    one: Mapping[str, GroupTally], other: Mapping[str, GroupTally]
) -> dict[str, GroupTally]:
    return _joined(one, other, _group)


def _group(one: GroupTally, other: GroupTally) -> GroupTally:
    return GroupTally(
        patients=one.patients + other.patients,
        alerted=one.alerted + other.alerted,
        not_scored=one.not_scored + other.not_scored,
        hours=one.hours + other.hours,
        above=one.above + other.above,
    )


def _sums(one: Sequence[Number], other: Sequence[Number]) -> list[Number]:
    return [a + b for a, b in zip(one, other, strict=True)]
