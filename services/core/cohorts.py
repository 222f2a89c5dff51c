"""Cohorts: the groups of patients by which a measurement can be split, and their names."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from services.core.events import Demographics, Stay

UNKNOWN: Final = "unknown"
"""A cohort like any other: the patients of whom a dimension is not known."""

DIMENSIONS: Final = (
    *("sex", "birth_sex", "age_band", "race", "ethnicity", "payer", "language", "unit"),
)
"""The order of the cohort codes of a prediction; the unit comes last."""

GROUP_DIMENSIONS: Final = (
    *("sex", "age_band", "race", "unit", "birth_sex", "ethnicity", "payer", "language"),
)
"""By what groups are told apart, in the order in which state and tallies have them: append, never
reorder."""

OLDEST: Final = 90.0
"""Ages (years) from here on are told as this one: so few live so long that an age names them."""

AGE_BANDS: Final = ((18.0, "0-17"), (40.0, "18-39"), (65.0, "40-64"), (80.0, "65-79"))
"""Upper bound (exclusive, years) and name of each age band below the open last one."""


def age_band(age: float | None) -> str:
    """Name the age band of an age in years.

    >>> [age_band(age) for age in (None, 17.9, 64, 65, 90)]
    ['unknown', '0-17', '40-64', '65-79', '80+']
    """
    if age is None:
        return UNKNOWN
    return next((name for bound, name in AGE_BANDS if age < bound), "80+")


def cohorts_of(person: Demographics | None, stay: Stay | None) -> tuple[str, ...]:
    """Name a patient's cohort in every dimension, in the order of DIMENSIONS."""
    who = person or Demographics()
    unit = stay.unit if stay else None
    named = (
        *(who.sex, who.birth_sex, age_band(who.age), who.race, who.ethnicity),
        *(who.payer, who.language, unit),
    )
    return tuple(name or UNKNOWN for name in named)


def only_payer(told: Demographics) -> bool:
    """Tell whether a Coverage came alone: it says who pays, and nothing of the person."""
    return told.payer is not None and told == Demographics(payer=told.payer)


def known_of(before: Demographics | None, told: Demographics | None) -> Demographics | None:
    """Give what is known of a person after something was told.

    What a Patient tells replaces what was known, but a Patient says nothing of who pays: that is
    known until a Coverage tells otherwise.

    >>> known_of(Demographics(payer="medicaid", sex="male"), Demographics(sex="female")).payer
    'medicaid'
    >>> known_of(Demographics(sex="female"), Demographics(payer="medicaid")).sex
    'female'
    """
    if before is None or told is None:
        return told
    if only_payer(told):
        return replace(before, payer=told.payer)
    return told if told.payer else replace(told, payer=before.payer)


def grouped(labels: Sequence[str]) -> tuple[str, ...]:
    """Give labels of GROUP_DIMENSIONS; what was kept before there were as many has UNKNOWN.

    >>> grouped(("female", "80+", "White", "MICU"))[3:]
    ('MICU', 'unknown', 'unknown', 'unknown', 'unknown')
    """
    return (*labels, *[UNKNOWN] * (len(GROUP_DIMENSIONS) - len(labels)))
