"""Invented people: drawn from an invented town, with identifiers that exist nowhere else."""

from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np

from services.simulator import fhir
from services.simulator.hospital import Town

_DAYS_PER_YEAR: Final = 365.25
_ALPHABET: Final = list("abcdefghjkmnpqrstvwxyz23456789")


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One invented person; `race`, `ethnicity`, `payer`, `language` are codes, "" if not told."""

    identity: str
    encounter: str
    record_number: str
    given: str
    family: str
    street: str
    city: str
    phone: str
    born: date
    sex: str
    race: str
    ethnicity: str
    payer: str
    language: str


def identifiers(person: Person) -> list[str]:
    """Give every string that could tell who somebody is: none may leave the clinical zone."""
    return [
        person.identity,
        person.encounter,
        person.record_number,
        person.given,
        person.family,
        person.street,
        person.city,
        person.phone,
        person.born.isoformat(),
    ]


def draw_person(rng: np.random.Generator, town: Town, admitted: datetime) -> Person:
    """Draw somebody who is admitted at a time; everything comes from `rng`."""
    years = float(np.clip(rng.normal(town.age_mean, town.age_spread), town.age_low, town.age_high))
    return Person(
        identity=f"sim-{_token(rng, 12)}",
        encounter=f"stay-{_token(rng, 12)}",
        record_number=f"SIM{rng.integers(10**9):09d}",
        given=_word(rng, town, 4),
        family=f"{_word(rng, town, 4)}-Simul",
        street=f"{rng.integers(1, 9999)} {_word(rng, town, 4)} Way",
        city=_word(rng, town, 5),
        phone=f"555-01{rng.integers(100):02d}-{rng.integers(10**6):06d}",
        born=(admitted - timedelta(days=years * _DAYS_PER_YEAR)).date(),
        sex=_choice(rng, town.sex),
        race=_choice(rng, town.race),
        ethnicity=_choice(rng, town.ethnicity),
        payer=_choice(rng, town.payer),
        language=_choice(rng, town.language),
    )


def resources(person: Person) -> list[fhir.Resource]:
    """Build what the admission office sends: the Patient, and the Coverage if it is told."""
    if not person.payer:
        return [_patient(person)]
    identity = f"{person.encounter}-payer"
    return [_patient(person), fhir.coverage(identity, person.identity, person.payer)]


def _patient(person: Person) -> fhir.Resource:
    """Build the Patient, with the US Core extensions for race and ethnicity."""
    extensions = [
        fhir.omb_extension(kind, code)
        for kind, code in (("race", person.race), ("ethnicity", person.ethnicity))
        if code
    ]
    built: dict[str, Any] = fhir.patient(
        person.identity, birth_date=person.born.isoformat(), gender=person.sex
    )
    built["identifier"][0]["value"] = person.record_number
    built["name"] = [{"use": "official", "family": person.family, "given": [person.given]}]
    built["address"] = [{"use": "home", "line": [person.street], "city": person.city}]
    built["telecom"] = [{"system": "phone", "value": person.phone}]
    if extensions:
        built["extension"] = extensions
    if person.language:
        built["communication"] = [fhir.communication(person.language)]
    return built


def _token(rng: np.random.Generator, length: int) -> str:
    return "".join(_ALPHABET[n] for n in rng.integers(len(_ALPHABET), size=length))


def _word(rng: np.random.Generator, town: Town, syllables: int) -> str:
    drawn = rng.integers(len(town.syllables), size=syllables)
    return "".join(town.syllables[n] for n in drawn).capitalize()


def _choice(rng: np.random.Generator, shares: dict[str, float]) -> str:
    bounds = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]
