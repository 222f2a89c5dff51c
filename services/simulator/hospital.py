"""The invented hospital: its units, beds, devices and habits, read from data files."""

from importlib.resources import files
from typing import Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from services.core.vitals import LABS, UNITS

Loaded = TypeVar("Loaded")


class Physiology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one variable behaves; `physiology.toml` explains each number."""

    mean: float
    person: float
    drift: float
    noise: float
    half_h: float
    sepsis: float
    low: float
    high: float
    decimals: int
    day: float = 0.0
    log: bool = False


class Vital(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a vital sign is charted: at most every so many hours, and how reliably."""

    every_h: float
    present: float
    ventilated: bool = False


class Panel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of laboratory values that are ordered and reported together."""

    variables: list[str]
    every_h: float
    ordered: float
    turnaround_min: float
    suspected_every_h: float | None = None


class Unit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One care unit."""

    name: str
    share: float
    round_min: float
    septic_share: float
    ventilated_share: float
    stay_days: float
    lab_interval: float
    sends: dict[str, str]


class Maker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A maker of bedside monitors: its share of the beds and how far its readings are off."""

    share: float
    offset: dict[str, float]


class Hospital(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `hospital.toml` says."""

    utc_offset_h: int
    units: list[Unit]
    vitals: dict[str, Vital]
    panels: dict[str, Panel]
    makers: dict[str, Maker]
    own_error: dict[str, float]


class Town(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `people.toml` says; each mapping is from a code to its share, "" is not told."""

    syllables: list[str]
    age_mean: float
    age_spread: float
    age_low: float
    age_high: float
    sex: dict[str, float]
    race: dict[str, float]
    ethnicity: dict[str, float]
    payer: dict[str, float]
    language: dict[str, float]


class Device(NamedTuple):
    """Something that measures.

    Attributes:
        identity: its logical id.
        rank: its place among the devices of its kind, 0 to 1, in an order that was drawn: the
            devices with rank < 0.3 are 30 % of them.
        offset: how far its readings are off, by variable, in model units.
    """

    identity: str
    rank: float
    offset: dict[str, float]


class Bed(NamedTuple):
    """A bed, the monitor that belongs to it, and what its unit shares."""

    unit: Unit
    monitor: Device
    thermometers: list[Device]
    analyzers: list[Device]


def load(name: str, kind: type[Loaded]) -> Loaded:
    """Read one of the simulator's data files, checked against its type."""
    text = (files("services.simulator") / name).read_text(encoding="utf-8")
    return msgspec.toml.decode(text, type=kind)


HOSPITAL: Final = load("hospital.toml", Hospital)
TOWN: Final = load("people.toml", Town)
PHYSIOLOGY: Final = load("physiology.toml", dict[str, Physiology])

_ANALYZERS: Final = 4
_BEDS_PER_THERMOMETER: Final = 3


def furnish(rng: np.random.Generator, hospital: Hospital, count: int) -> list[Bed]:
    """Set up beds with their devices.

    Args:
        rng: draws makers, errors and ranks.
        hospital: what to set up.
        count: how many beds in all, at least one a unit.
    """
    owners = _owners(hospital, count)
    monitors = _monitors(rng, hospital, owners)
    analyzers = _devices(rng, hospital, [f"analyzer-{n}" for n in range(_ANALYZERS)], LABS)
    names = {
        unit.name: [
            f"thermometer-{unit.name.lower()}-{n}"
            for n in range(-(-owners.count(unit) // _BEDS_PER_THERMOMETER))
        ]
        for unit in hospital.units
    }
    everywhere = [name for some in names.values() for name in some]
    thermometers = {d.identity: d for d in _devices(rng, hospital, everywhere, ("Temp",))}
    return [
        Bed(unit, monitor, [thermometers[name] for name in names[unit.name]], analyzers)
        for unit, monitor in zip(owners, monitors, strict=True)
    ]


def _owners(hospital: Hospital, count: int) -> list[Unit]:
    bounds = np.cumsum([unit.share for unit in hospital.units])
    places = (np.arange(count) + 0.5) / count * bounds[-1]
    return [hospital.units[place] for place in np.searchsorted(bounds, places)]


def _monitors(rng: np.random.Generator, hospital: Hospital, owners: list[Unit]) -> list[Device]:
    names = [f"monitor-{unit.name.lower()}-{n}" for n, unit in enumerate(owners)]
    bedside = [name for name in UNITS if name not in (*LABS, "Temp")]
    devices = _devices(rng, hospital, names, bedside)
    shares = [maker.share for maker in hospital.makers.values()]
    drawn = rng.choice(len(shares), size=len(devices), p=np.divide(shares, sum(shares)))
    makers = list(hospital.makers.values())
    return [
        device._replace(
            offset={
                name: device.offset.get(name, 0.0) + makers[maker].offset.get(name, 0.0)
                for name in device.offset | makers[maker].offset
            }
        )
        for device, maker in zip(devices, drawn, strict=True)
    ]


def _devices(
    rng: np.random.Generator,
    hospital: Hospital,
    names: list[str],
    variables: tuple[str, ...] | list[str],
) -> list[Device]:
    ranks = (rng.permutation(len(names)) + 0.5) / max(len(names), 1)
    erring = [name for name in variables if name in hospital.own_error]
    return [
        Device(
            identity,
            float(rank),
            {name: float(rng.normal(0, hospital.own_error[name])) for name in erring},
        )
        for identity, rank in zip(names, ranks, strict=True)
    ]
