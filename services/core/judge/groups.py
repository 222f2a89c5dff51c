"""The cohorts of a tally of labels: what each adds up to, by patient and in each replicate."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.baseline import EVERYBODY
from services.core.cohorts import GROUP_DIMENSIONS
from services.core.label_tallies import NUMBERS, Group, LabelTally
from services.core.stats.intervals import REPLICATES, poisson_weights

Float64 = NDArray[np.float64]

COLUMNS: Final = (*NUMBERS, "led")
"""What is added up: every number of `Counts`, and how many leads there are."""

_PLACE: Final = {name: number for number, name in enumerate(COLUMNS)}


class Cohort(NamedTuple):
    """One cohort of one window.

    Attributes:
        name: all, or dimension=label.
        sums: of each column, over all patients.
        by_patient: (P, columns), a row for each distinct patient.
        replicates: (B, columns), sums over the patients drawn in each bootstrap replicate.
        leads: s, rising.
    """

    name: str
    sums: Mapping[str, float]
    by_patient: Float64
    replicates: Float64
    leads: Sequence[int]

    def total(self, *columns: str) -> float:
        """Add columns up over all patients."""
        return sum(self.sums[name] for name in columns)

    def patients(self, *columns: str) -> int:
        """Count the patients that have something in one of the columns; without any, all."""
        if not columns:
            return len(self.by_patient)
        return int(np.count_nonzero(self.by_patient[:, _places(columns)].any(axis=1)))

    def drawn(self, *columns: str) -> Float64:
        """Add columns up in each replicate, (B,)."""
        drawn: Float64 = self.replicates[:, _places(columns)].sum(axis=1)
        return drawn


def _places(columns: Sequence[str]) -> list[int]:
    return [_PLACE[name] for name in columns]


def cohorts_of(tally: LabelTally) -> Iterator[Cohort]:
    """Give the cohort of all, then each label of each dimension that somebody has, in order."""
    groups = sorted(tally)
    rows = [[*tally[group][:-1], len(tally[group].leads)] for group in groups]
    table = np.array(rows, np.float64).reshape(-1, len(COLUMNS))
    place = {who: number for number, who in enumerate(dict.fromkeys(g.patient for g in groups))}
    patient = np.array([place[group.patient] for group in groups], np.int64)
    weights = np.array([_weights(who) for who in place], np.float64).reshape(-1, REPLICATES)
    for name, members in _members(groups).items():
        who, row = np.unique(patient[members], return_inverse=True)
        by_patient = np.zeros((len(who), len(COLUMNS)))
        np.add.at(by_patient, row, table[members])
        leads = sorted(lead for member in members for lead in tally[groups[member]].leads)
        sums = dict(zip(COLUMNS, by_patient.sum(axis=0).tolist(), strict=True))
        yield Cohort(name, sums, by_patient, weights[who].T @ by_patient, leads)


def _members(groups: Sequence[Group]) -> dict[str, list[int]]:
    """Places of the groups of each cohort."""
    members = {EVERYBODY: list(range(len(groups)))}
    for at, dimension in enumerate(GROUP_DIMENSIONS):
        for label in sorted({group.labels[at] for group in groups}):
            members[f"{dimension}={label}"] = [
                place for place, group in enumerate(groups) if group.labels[at] == label
            ]
    return members


@lru_cache(maxsize=1 << 15)
def _weights(patient: bytes) -> NDArray[np.uint8]:
    """A patient's weights; windows are judged again and again, with the same patients."""
    weights: NDArray[np.uint8] = poisson_weights([patient])[0]
    return weights
