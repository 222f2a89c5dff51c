"""From the patient-hours of a window to its tally."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.baseline import EVERYBODY, Baseline, CohortReference
from services.core.folds.patients import PatientHours, label_of
from services.core.stats.drift import bin_of
from services.core.tallies import CohortTally, GroupTally, HourTally, PatientDays
from services.core.vitals import VITALS

UNIT: Final = "unit"
"""The dimension by which drift is looked for too."""

Flags = NDArray[np.bool_]


def hour_tally(
    found: PatientHours, before: AbstractSet[bytes], baseline: Baseline | None, partition: int
) -> HourTally:
    """Sum up a window; the same patients give the same tally, in whatever order they came.

    Args:
        found: the window's patients.
        before: who was there in the window before.
        baseline: gives the bins; None: no histograms.
        partition: whose patients they are.
    """
    if not len(found):
        return HourTally()
    names = found.pseudonyms()
    order = np.array(sorted(range(len(names)), key=names.__getitem__))
    new = np.array([names[slot] not in before for slot in order.tolist()])
    raised = found.raised()[order]
    return HourTally(
        patients=len(names),
        new_patients=int(new.sum()),
        hours=int(found.exists().sum()),
        cohorts=_cohorts(found, order, new, baseline),
        groups={d: dict(_groups(found, d)) for d in found.groups()},
        days=[
            PatientDays(
                partition=partition, patients=len(names), alerted=np.packbits(raised).tobytes()
            )
        ],
    )


def _cohorts(
    found: PatientHours, order: NDArray[np.intp], new: Flags, baseline: Baseline | None
) -> dict[str, CohortTally]:
    """`all`, then every unit in which somebody is; patients without an hour are in none."""
    values, exists = found.values()[order], found.exists()[order]
    codes, labels = found.groups()[UNIT]
    units = np.array([label_of(labels, code) for code in codes[order].tolist()])
    there = exists.any(axis=1)
    members = {EVERYBODY: there}
    members |= {f"{UNIT}={unit}": there & (units == unit) for unit in np.unique(units).tolist()}
    references = baseline.cohorts if baseline else {}
    return {
        cohort: _cohort(values[who], exists[who], new[who], references.get(cohort))
        for cohort, who in members.items()
        if who.any()
    }


def _cohort(
    values: NDArray[np.float32], exists: Flags, new: Flags, reference: CohortReference | None
) -> CohortTally:
    """Sum up the patients of one cohort, (P, H, vitals) and (P, H)."""
    present = ~np.isnan(values)
    measured, hours = present.sum(axis=1), exists.sum(axis=1)
    everybody = [len(hours)] * len(VITALS)
    shares = measured / hours[:, None]
    sums = np.where(present, values, 0.0).sum(axis=1, dtype=np.float64)
    return CohortTally(
        patients=len(hours),
        new_patients=int(new.sum()),
        hours=int(hours.sum()),
        feature_patients=[*(measured > 0).sum(axis=0).tolist(), *everybody],
        feature_hours=[*measured.sum(axis=0).tolist(), *([int(hours.sum())] * len(VITALS))],
        weights=[
            *_value_weights(values, present, reference),
            *_presence_weights(shares, reference),
        ],
        mean_sums=[
            *(sums / np.maximum(measured, 1)).sum(axis=0).tolist(),
            *shares.sum(axis=0).tolist(),
        ],
    )


def _value_weights(
    values: NDArray[np.float32], present: Flags, reference: CohortReference | None
) -> Iterator[list[float]]:
    for vital, name in enumerate(VITALS):
        feature = reference.features.get(name) if reference else None
        if feature is None:
            yield []
            continue
        there = present[:, :, vital]
        many = there.sum(axis=1, keepdims=True)
        weight = np.broadcast_to(1 / np.maximum(many, 1), there.shape)[there]
        places = bin_of(values[:, :, vital][there], feature.edges)
        yield np.bincount(places, weight, len(feature.edges) + 1).tolist()


def _presence_weights(
    shares: NDArray[np.float64], reference: CohortReference | None
) -> Iterator[list[float]]:
    """Two bins, absent and present, from the share of each patient's hours, (P, vitals)."""
    for vital, name in enumerate(VITALS):
        if reference is None or f"{name}.presence" not in reference.features:
            yield []
        else:
            present = shares[:, vital]
            yield [float((1 - present).sum()), float(present.sum())]


def _groups(found: PatientHours, dimension: str) -> Iterator[tuple[str, GroupTally]]:
    codes, labels = found.groups()[dimension]
    scored, above = found.scored().sum(axis=1), found.above().sum(axis=1)
    unscored = found.abstained() & (scored == 0)
    names = np.array([label_of(labels, code) for code in codes.tolist()])
    for label in np.unique(names).tolist():
        who = names == label
        yield (
            label,
            GroupTally(
                patients=int(who.sum()),
                alerted=int(found.raised()[who].sum()),
                not_scored=int(unscored[who].sum()),
                hours=int(scored[who].sum()),
                above=int(above[who].sum()),
            ),
        )
