"""What changes in the ward, from when, and for which devices or people; read from TOML files."""

from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.core.errors import CommandError
from services.core.faults import Fault
from services.core.vitals import VARIABLE_INDEX
from services.simulator.charting import Chart
from services.simulator.hospital import Bed, Device
from services.simulator.people import Person

Mask = NDArray[np.bool_]

_HIGHEST: Final = {"O2Sat": 100.0, "SaO2": 100.0}


class _Change(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """When and for whom: hours count from the strike; empty `unit` and `who` mean everybody."""

    from_h: float = 0.0
    until_h: float | None = None
    unit: str = ""
    who: dict[str, str] = {}


class Offset(_Change, frozen=True, kw_only=True, tag="offset"):
    """A share of the devices reads a variable too high or too low, in model units."""

    variable: str
    add: float
    share: float = 1.0


class Missing(_Change, frozen=True, kw_only=True, tag="missing"):
    """Values are left out, in some hours of the local day (which may span midnight)."""

    variables: list[str]
    probability: float
    local_hours: tuple[int, int] = (0, 24)


class Label(_Change, frozen=True, kw_only=True, tag="label"):
    """A share of the devices sends values of one unit under the name of another."""

    variable: str
    value_unit: str
    label: str
    share: float = 1.0


class Delay(_Change, frozen=True, kw_only=True, tag="delay"):
    """Laboratory results take so many minutes longer."""

    minutes: float


class Sepsis(_Change, frozen=True, kw_only=True, tag="sepsis"):
    """Sepsis is so many times as frequent among those who are admitted."""

    times: float


Change: TypeAlias = Offset | Missing | Label | Delay | Sepsis


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to the ward, in one sentence and in detail."""

    summary: str
    changes: list[Change]


class Place(NamedTuple):
    """Where and whose a chart is."""

    bed: Bed
    person: Person
    admitted_h: float  # after the ward's start
    first_local_hour: float


class Strike(NamedTuple):
    """A scenario that strikes at an hour after the ward's start."""

    scenario: Scenario
    at_h: float

    def changed(self, chart: Chart, place: Place, rng: np.random.Generator) -> Chart:
        """Apply everything but labels and the share of sepsis to one patient's chart."""
        for change in self.scenario.changes:
            # Drawn for every change, so that one does not move the chance of the next.
            drawn = rng.random(chart.values.shape)
            active = self._active(change, place, chart.measured_min / 60)
            match change:
                case Offset():
                    _offset(chart, change, active & _of_devices(chart, place.bed, change))
                case Missing():
                    active &= _within(chart.measured_min / 60 + place.first_local_hour, change)
                    for name in change.variables:
                        gone = active & (drawn[:, VARIABLE_INDEX[name]] < change.probability)
                        chart.values[gone, VARIABLE_INDEX[name]] = np.nan
                case Delay():
                    chart.sent_s[active & chart.lab] += round(change.minutes * 60)
                case Label() | Sepsis():
                    pass
        return chart

    def label(self, name: str, place: Place, *, hour: float, device: Device) -> tuple[str, str]:
        """Say in which unit a value is sent and under which name; empty when as always."""
        for change in self.scenario.changes:
            if (
                isinstance(change, Label)
                and change.variable == name
                and device.rank < change.share
                and self._active(change, place, np.array([hour]))[0]
            ):
                return change.value_unit, change.label
        return "", ""

    def sepsis_times(self, place: Place) -> float:
        """How many times as likely as usual sepsis is for somebody admitted now."""
        times = 1.0
        for change in self.scenario.changes:
            if isinstance(change, Sepsis) and self._active(change, place, np.zeros(1))[0]:
                times *= change.times
        return times

    def _active(self, change: _Change, place: Place, hours: NDArray[np.float64]) -> Mask:
        since = hours + place.admitted_h - self.at_h
        until = np.inf if change.until_h is None else change.until_h
        here = change.unit in {"", place.bed.unit.name}
        whose = all(getattr(place.person, kind) == code for kind, code in change.who.items())
        return (since >= change.from_h) & (since < until) & (here and whose)


def _offset(chart: Chart, change: Offset, mask: Mask) -> None:
    column = VARIABLE_INDEX[change.variable]
    moved = chart.values[mask, column] + change.add
    chart.values[mask, column] = np.minimum(moved, _HIGHEST.get(change.variable, np.inf))


def _of_devices(chart: Chart, bed: Bed, change: Offset) -> Mask:
    devices = [chart.device(row, change.variable, bed) for row in range(len(chart.lab))]
    return np.array([device.rank < change.share for device in devices], dtype=np.bool_)


def _within(local_hours: NDArray[np.float64], change: Missing) -> Mask:
    first, last = change.local_hours
    return ((local_hours - first) % 24) < ((last - first) % 24 or 24)


def names() -> list[str]:
    """Names of the scenario files that come with the simulator."""
    folder = files("services.simulator") / "scenarios"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir())


def load_scenario(name: str) -> Scenario:
    """Read a scenario by its name, or by the path of a TOML file.

    Raises:
        CommandError: there is no such scenario, or its file says what a scenario cannot.
    """
    known = files("services.simulator") / "scenarios" / f"{name}.toml"
    try:
        text = (known if name in names() else Path(name)).read_text(encoding="utf-8")
        scenario = msgspec.toml.decode(text, type=Scenario)
    except OSError as error:
        raise _unusable(name, "it cannot be read") from error
    except msgspec.MsgspecError as error:
        raise _unusable(name, str(error)) from error
    for change in scenario.changes:
        _check(name, change)
    return scenario


def _check(name: str, change: Change) -> None:
    variables = change.variables if isinstance(change, Missing) else []
    if isinstance(change, Offset | Label):
        variables = [change.variable]
    for variable in variables:
        if variable not in VARIABLE_INDEX:
            raise _unusable(name, f"there is no variable {variable}")


def _unusable(name: str, why: str) -> CommandError:
    return CommandError(
        f"The scenario {name} cannot be used: {why}.",
        f"Take one of {', '.join(names())}, or a file of the same form.",
        Fault.SCENARIO,
    )
