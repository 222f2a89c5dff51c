"""One row of a chart as FHIR, in the units, codes and devices of the care unit."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple

import msgspec
import numpy as np

from services.core.vitals import UNITS, VARIABLE_INDEX, VARIABLES
from services.simulator import fhir
from services.simulator.charting import Chart
from services.simulator.physiology import DECIMALS
from services.simulator.scenario import Place, Strike

_PRESSURES: Final[tuple[str, ...]] = ("SBP", "DBP")
MISTYPED: Final = 1.35
"""A mistyped value is so many times the right one."""
_WEIGHT_KG: Final = 78.0


class Stay(NamedTuple):
    """Everything that is needed to write down one stay."""

    place: Place
    admitted: datetime
    chart: Chart
    utc_offset_h: int
    strike: Strike | None

    def moment(self, row: int) -> str:
        """When a row was measured, in local time with its offset."""
        zone = timezone(timedelta(hours=self.utc_offset_h))
        at = self.admitted + timedelta(minutes=int(self.chart.measured_min[row]))
        return at.astimezone(zone).isoformat(timespec="seconds")

    def quantity(self, row: int, name: str, factor: float = 1.0) -> fhir.Resource:
        """Give a value of a row with the unit under which it is sent."""
        value = float(self.chart.values[row, VARIABLE_INDEX[name]]) * factor
        device = self.chart.device(row, name, self.place.bed)
        value_unit = label = self.place.bed.unit.sends.get(name, "")
        if self.strike:
            hour = self.chart.measured_min[row] / 60
            new = self.strike.label(name, self.place, hour=float(hour), device=device)
            value_unit, label = new if new[0] else (value_unit, label)
        if value_unit and value_unit != UNITS[name]:
            return fhir.quantity(fhir.converted(name, value, value_unit), label)
        return fhir.quantity(_rounded(name, value), label or UNITS[name])

    def charted(self, row: int, device: str) -> fhir.Charted:
        """Give what the Observations of one row and device have in common."""
        person = self.place.person
        return fhir.Charted(
            patient=person.identity,
            encounter=person.encounter,
            effective=self.moment(row),
            device=device,
        )


def _rounded(name: str, value: float) -> float:
    digits = DECIMALS[name]
    return round(value, digits) if digits else float(round(value))


def chart_row(
    stay: Stay, row: int, *, mistyped: str = "", extra: bool = False
) -> list[fhir.Resource]:
    """Write down a row: one Observation per value, blood pressure as a panel.

    Args:
        stay: whose chart.
        row: of the chart.
        mistyped: the variable that is noted wrong at first.
        extra: body weight is noted besides.
    """
    return list(_observations(stay, row, mistyped, extra=extra))


def _observations(stay: Stay, row: int, mistyped: str, *, extra: bool) -> Iterator[fhir.Resource]:
    noted = [VARIABLES[place] for place in np.flatnonzero(~np.isnan(stay.chart.values[row]))]
    moment: dict[str, fhir.Charted] = {}
    stem = _stem(stay, row)
    pressures = {name: stay.quantity(row, name) for name in _PRESSURES if name in noted}
    monitor = stay.place.bed.monitor.identity
    if pressures:
        yield fhir.blood_pressure(stay.charted(row, monitor), f"{stem}-85354-9", pressures)
    for name in noted:
        if name not in _PRESSURES:
            device = stay.chart.device(row, name, stay.place.bed).identity
            charted = moment.setdefault(device, stay.charted(row, device))
            yield _single(stay, row, name, charted, MISTYPED if name == mistyped else 1.0)
    if extra:
        yield fhir.weight(stay.charted(row, monitor), f"{stem}-29463-7", _WEIGHT_KG)


def _single(
    stay: Stay, row: int, name: str, charted: fhir.Charted, factor: float = 1.0
) -> fhir.Resource:
    quantity = stay.quantity(row, name, factor)
    identity = f"{_stem(stay, row)}-{fhir.PRIMARY[name]}"
    return fhir.observation(
        charted, identity, name=name, value=quantity["value"], unit=quantity["code"]
    )


def _stem(stay: Stay, row: int) -> str:
    return f"{stay.place.person.encounter}-{row}"


def second_version(stay: Stay, row: int, name: str, status: str) -> fhir.Resource:
    """Write a value down again: `amended` with the right one, or `entered-in-error`."""
    device = stay.chart.device(row, name, stay.place.bed).identity
    charted = msgspec.structs.replace(stay.charted(row, device), version=2, status=status)
    return _single(stay, row, name, charted)


def unusable(stay: Stay, row: int, kind: str) -> bytes:
    """Write something nobody can use, beside the row: the row itself is still sent.

    Args:
        stay: whose chart.
        row: of the chart.
        kind: one of `trouble.BAD`.
    """
    charted = stay.charted(row, stay.place.bed.monitor.identity)
    resource = fhir.observation(charted, f"{_stem(stay, row)}-bad", name="HR", value=80.0)
    if kind == "unit":
        resource["valueQuantity"]["code"] = "bananas"
    elif kind == "subject":
        del resource["subject"]
    elif kind == "status":
        resource["status"] = "xyz"
    body = msgspec.json.encode(resource)
    return body[: len(body) // 2] if kind == "truncated" else body
