"""Histograms of patient-hours over frozen bins, in which every patient weighs the same."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SMALLEST_CELL: Final = 11
"""A cell with fewer patients than this is not shown."""

_DECILES: Final = np.arange(1, 10) / 10


class Histogram(NamedTuple):
    """What patients spent their measured hours on; mergeable by addition over distinct patients.

    Attributes:
        weight: (B,) each patient spreads a weight of 1 evenly over its measured hours.
        patients: (B,) distinct patients in each bin.
        total: distinct patients in all.
    """

    weight: NDArray[np.float64]
    patients: NDArray[np.int64]
    total: int


def decile_edges(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Inner edges of at most ten bins, each right-closed: the unique deciles of the values.

    A decile that equals the highest value would leave the last bin empty, and is no edge.

    >>> decile_edges(np.arange(1.0, 21.0)).tolist()
    [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0]
    """
    deciles = np.unique(np.quantile(values, _DECILES, method="inverted_cdf"))
    edges: NDArray[np.floating] = deciles[deciles < np.max(values)]
    return edges


def histogram(
    values: NDArray[np.floating], patient: NDArray[np.integer], edges: NDArray[np.floating]
) -> Histogram:
    """Fold patient-hours into bins; edge i closes bin i on the right.

    Args:
        values: (R,) one per measured patient-hour, in the precision of the edges.
        patient: (R,) which patient each hour is of.
        edges: (B - 1,) rising.

    >>> histogram(np.array([1.0, 2.0, 3.0]), np.array([7, 7, 8]), np.array([1.0])).weight.tolist()
    [0.5, 1.5]
    """
    bins = len(edges) + 1
    place = np.searchsorted(edges, values, side="left")
    _, who, hours = np.unique(patient, return_inverse=True, return_counts=True)
    seen = np.unique(who * bins + place) % bins
    return Histogram(
        weight=np.bincount(place, 1 / hours[who], bins).astype(np.float64),
        patients=np.bincount(seen, minlength=bins),
        total=len(hours),
    )


def shown_edges(
    values: NDArray[np.floating], patient: NDArray[np.integer], edges: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Take out edges until every bin holds at least SMALLEST_CELL patients.

    The bin with the fewest patients is joined to the emptier one beside it.
    """
    while len(edges):
        cells = histogram(values, patient, edges).patients
        least = int(np.argmin(cells))
        if cells[least] >= SMALLEST_CELL:
            break
        below = cells[least - 1] if least > 0 else np.inf
        above = cells[least + 1] if least < len(edges) else np.inf
        edges = np.delete(edges, least - 1 if below < above else least)
    return edges
