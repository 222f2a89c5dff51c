"""An unchanged ward as monitoring sees it: patient-hours for a baseline, without the wire."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.freeze import PatientHours
from services.core.terminology.book import Terminology
from services.core.vitals import VARIABLE_INDEX, VITALS
from services.simulator.messages import START
from services.simulator.rendering import MISTYPED, Stay
from services.simulator.trouble import Plan
from services.simulator.ward import Ward

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STAY_H: Final = 100
"""A stay and the empty bed before it take less, on average."""


class _Hours(NamedTuple):
    """The measured hours of one stay: (n,) since the epoch, and (n, 8) values."""

    hour: NDArray[np.int64]
    values: NDArray[np.float64]


def unchanged(
    rng: np.random.Generator, terminology: Terminology, *, stays: int, beds: int = 200
) -> PatientHours:
    """Chart so many stays of a ward in which nothing changes; 2,000 take ten seconds.

    What goes wrong in every ward goes wrong here too. Values are as ingest makes them of what
    is sent: rounded as charted, in the units of the care unit, off by what each device is off.

    Args:
        rng: draws everything.
        terminology: converts units.
        stays: how many, the first to be admitted.
        beds: of the ward; many, so that no device counts for much.
    """
    ward = Ward(rng, START, beds=beds)
    lasting_h = _STAY_H * (1 + stays / beds)
    admitted = sorted(ward.stays(lasting_h), key=lambda each: each[1].admitted_at)[:stays]
    return joined([(stay, planned) for stay, _, planned in admitted], terminology)


def joined(stays: list[tuple[Stay, Plan]], terminology: Terminology) -> PatientHours:
    """Put stays together, each of a patient of its own."""
    taken = _reader(terminology)
    each = [_hours(stay, planned, taken) for stay, planned in stays]
    return PatientHours(
        patient=np.repeat(np.arange(len(each)), [len(hours.hour) for hours in each]),
        hour=np.concatenate([hours.hour for hours in each]),
        values=np.concatenate([hours.values for hours in each]),
        units=[stay.place.bed.unit.name for stay, _ in stays],
    )


def _reader(terminology: Terminology) -> Callable[[str, float, str], float]:
    """Reads a vital sign's number and unit as ingest does; NaN for what ingest refuses."""
    conversions = {
        name: {c.unit: c for c in terminology.conversions(VARIABLE_INDEX[name])} for name in VITALS
    }
    possible = {v.name: v.possible for v in terminology.variables}

    def taken(name: str, number: float, unit: str) -> float:
        value = conversions[name][unit].apply(number)
        return value if possible[name].holds(value) else np.nan

    return taken


def _hours(stay: Stay, planned: Plan, taken: Callable[[str, float, str], float]) -> _Hours:
    """The last value of each hour: of two at one moment the one that is sent later."""
    chart = stay.chart
    admitted_s = (stay.admitted - _EPOCH).total_seconds()
    hour = ((admitted_s + 60 * chart.measured_min) // 3600).astype(np.int64)
    right = {sending.row for sending in planned.sendings if sending.kind == "correction"}
    wrong = {row: name for row, name in planned.mistyped.items() if row not in right}
    hours, place = np.unique(hour, return_inverse=True)
    values = np.full((len(hours), len(VITALS)), np.nan)
    for row in np.lexsort((chart.sent_s, chart.measured_min)).tolist():
        for column in np.flatnonzero(~np.isnan(chart.values[row, : len(VITALS)])).tolist():
            name = VITALS[column]
            sent = stay.quantity(row, name, MISTYPED if wrong.get(row) == name else 1.0)
            value = taken(name, sent["value"], sent["code"])
            if not np.isnan(value):
                values[place[row], column] = value
    return _Hours(hours, values)
