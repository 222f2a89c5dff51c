"""The door to a period: what the ledger holds of it, as patient-hours for a baseline."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from services.core.freeze import PatientHours
from services.core.vitals import VITALS
from services.core.windows import HOUR

_VALUE: Final = (
    "reinterpretAsFloat64(substring(measured, 8 * bitCount(bitAnd(bitmap, {below})) + 1, 8))"
)
_LAST: Final = (
    "if(countIf(bitTest(bitmap, {place})) = 0, nan,"
    " argMaxIf({value}, (measured_at, vitals_offset), bitTest(bitmap, {place}))) AS {name}"
)
_COUNTED: Final = (
    "kind = 'observation' AND role = 'shown' AND bitmap != 0"
    " AND (disposition = 'scored'"
    " OR disposition = 'abstained' AND cause NOT IN ('unusable', 'unreadable'))"
    " AND measured_at >= fromUnixTimestamp64Micro({start:Int64})"
    " AND measured_at < fromUnixTimestamp64Micro({end:Int64})"
)
"""The entries that the fold of patient-hours counts (`core.folds.hours`)."""


class Store(Protocol):
    """What this door needs of `services.runtime.clickhouse.ClickHouse`."""

    def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        formats: Mapping[str, str] | None = None,
    ) -> dict[str, Sequence[Any]]:
        """Ask and take the whole answer; raises Retry."""
        ...


def patient_hours(store: Store, start: int, end: int) -> PatientHours:
    """Fold what was scored in a period as monitoring does: last value of each hour, last unit.

    Args:
        store: with the derived table `predictions`.
        start: µs, a full hour.
        end: µs, not in it.

    Raises:
        Retry: the store does not answer.
    """
    asked = {"start": start, "end": end}
    hours = store.query(_hours(), asked, formats={"pseudonym": "bytes"})
    units = store.query(_UNITS, asked, formats={"pseudonym": "bytes"})
    places = {name: place for place, name in enumerate(units["pseudonym"])}
    values = [np.asarray(hours[name], np.float64) for name in VITALS]
    return PatientHours(
        patient=np.array([places[name] for name in hours["pseudonym"]], np.int64),
        hour=np.asarray(hours["hour"], np.int64),
        values=np.stack(values, axis=1) if len(hours["hour"]) else np.empty((0, len(VITALS))),
        units=list(units["unit"]),
    )


def _hours() -> str:
    last = [
        _LAST.format(place=place, name=f"`{name}`", value=_VALUE.format(below=(1 << place) - 1))
        for place, name in enumerate(VITALS)
    ]
    return (
        f"SELECT pseudonym, intDiv(toUnixTimestamp64Micro(measured_at), {HOUR}) AS hour,"  # noqa: S608 - names and numbers of ours
        f" {', '.join(last)} FROM predictions WHERE {_COUNTED}"
        " GROUP BY pseudonym, hour ORDER BY pseudonym, hour"
    )


_UNITS: Final = (
    "SELECT pseudonym, argMax(unit, vitals_offset) AS unit FROM predictions"  # noqa: S608 - as above
    f" WHERE {_COUNTED} GROUP BY pseudonym ORDER BY pseudonym"
)
