"""Cohorts: the groups of patients by which a measurement can be split, and their names."""

from typing import Final

from services.core.events import Demographics, Stay

UNKNOWN: Final = "unknown"
"""A cohort like any other: the patients of whom a dimension is not known."""

DIMENSIONS: Final = ("sex", "age_band", "race", "ethnicity", "payer", "language", "unit")
"""The order of the cohort codes of a prediction."""

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
    named = (who.sex, age_band(who.age), who.race, who.ethnicity, who.payer, who.language, unit)
    return tuple(name or UNKNOWN for name in named)
