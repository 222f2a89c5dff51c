"""Which cells are too small to be shown, and which must go with them."""

from collections.abc import Mapping

from services.core.stats.sketches import SMALLEST_CELL


def hidden(patients: Mapping[str, int]) -> frozenset[str]:
    """Name the cohorts that are not shown: cells under 11, and with them the next smallest one.

    Without the next smallest, the difference to the whole would tell what was left out. A cell of
    nobody is neither: it tells of no one, and hiding it would protect no one.

    Args:
        patients: distinct patients of each cohort: `all`, or `dimension=label`.

    >>> sorted(hidden({"all": 60, "sex=female": 52, "sex=male": 8, "unit=MICU": 60}))
    ['sex=female', 'sex=male']
    """
    dimensions: dict[str, list[tuple[int, str]]] = {}
    for cohort, number in patients.items():
        if number:
            dimensions.setdefault(cohort.partition("=")[0], []).append((number, cohort))
    found: set[str] = set()
    for cells in dimensions.values():
        small = sum(number < SMALLEST_CELL for number, _ in cells)
        found.update(cohort for _, cohort in sorted(cells)[: small + 1 if small else 0])
    return frozenset(found)
