"""What is written down of a patient: when somebody looked, what was noted, when it was sent."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.vitals import LABS, VARIABLE_INDEX, VARIABLES
from services.simulator.hospital import Bed, Device, Hospital, Panel
from services.simulator.physiology import Float64, Illness, measure

Int64 = NDArray[np.int64]

_SUSPECTED: Final = 0.4
"""Strength of an illness from which somebody thinks of sepsis."""
_ROUND_JITTER_MIN: Final = 6.0
_SKIPPED: Final = 0.03
_GAPS_PER_DAY: Final = 0.15
_GAP_ROUNDS: Final = 3
_PANEL_COMPLETE: Final = 0.97
_CHARTING_DELAY_S: Final = 150.0
_TURNAROUND_SPREAD: Final = 0.25
_FROM_ANALYZER: Final = frozenset(LABS) - {"FiO2"}


class Chart(NamedTuple):
    """What is noted during a stay; n rows, each one moment. The arrays may be changed in place.

    Attributes:
        measured_min: (n,) minutes after admission.
        sent_s: (n,) seconds after admission.
        values: (n, len(VARIABLES)) model units, not rounded; NaN where nothing was noted.
        lab: (n,) whether the row is a laboratory report.
        instrument: (n,) drawn number that picks the thermometer or the analyzer.
    """

    measured_min: Int64
    sent_s: Int64
    values: Float64
    lab: NDArray[np.bool_]
    instrument: Int64

    def device(self, row: int, name: str, bed: Bed) -> Device:
        """Say which device a value came from."""
        if name == "Temp":
            return bed.thermometers[int(self.instrument[row]) % len(bed.thermometers)]
        if name in _FROM_ANALYZER:
            return bed.analyzers[int(self.instrument[row]) % len(bed.analyzers)]
        return bed.monitor


def draw_chart(
    rng: np.random.Generator,
    hospital: Hospital,
    *,
    bed: Bed,
    truth: Float64,
    illnesses: list[Illness],
) -> Chart:
    """Draw what is noted of what is true.

    Args:
        rng: draws times, gaps, errors of measurement.
        hospital: its habits.
        bed: where the patient lies.
        truth: from `true_hours`; its length is the stay's.
        illnesses: what makes people order more.
    """
    stay_min = (len(truth) - 1) * 60
    rounds = _rounds(rng, bed, stay_min)
    vitals = _vitals(rng, hospital, bed, rounds)
    reports = [
        _reports(rng, panel, bed=bed, stay_min=stay_min, illnesses=illnesses)
        for panel in hospital.panels.values()
    ]
    at = np.concatenate([rounds, *(times for times, _, _ in reports)])
    noted = np.concatenate([vitals, *(mask for _, mask, _ in reports)])
    delay = rng.exponential(_CHARTING_DELAY_S, len(rounds))
    delays = np.concatenate([delay, *(delay for _, _, delay in reports)])
    kept = noted.any(axis=1)
    at, noted, delays = at[kept], noted[kept], delays[kept]
    values = measure(rng, truth, at / 60)
    values[~noted] = np.nan
    chart = Chart(
        measured_min=at,
        sent_s=at * 60 + 1 + delays.astype(np.int64),
        values=values,
        lab=np.flatnonzero(kept) >= len(rounds),
        instrument=rng.integers(1 << 16, size=len(at)),
    )
    return _miscalibrated(chart, bed)


def _rounds(rng: np.random.Generator, bed: Bed, stay_min: int) -> Int64:
    every = bed.unit.round_min
    times = np.arange(rng.uniform(0.1, 0.6) * every, stay_min, every)
    kept = rng.random(len(times)) >= _SKIPPED
    for _ in range(rng.poisson(_GAPS_PER_DAY * stay_min / 1440)):
        start = rng.integers(len(times))
        kept[start + 1 : start + 1 + _GAP_ROUNDS] = False
    jittered = times + rng.normal(0, _ROUND_JITTER_MIN, len(times))
    return np.unique(np.clip(jittered[kept], 0, stay_min - 1).astype(np.int64))


def _vitals(
    rng: np.random.Generator, hospital: Hospital, bed: Bed, rounds: Int64
) -> NDArray[np.bool_]:
    ventilated = rng.random() < bed.unit.ventilated_share
    noted = np.zeros((len(rounds), len(VARIABLES)), dtype=np.bool_)
    for name, vital in hospital.vitals.items():
        due = rng.random(len(rounds)) < vital.present
        if vital.every_h:
            turn = (rounds / 60 + rng.uniform(0, vital.every_h)) // vital.every_h
            due &= np.diff(turn, prepend=-1.0) > 0
        if ventilated or not vital.ventilated:
            noted[:, VARIABLE_INDEX[name]] = due
    return noted


def _reports(
    rng: np.random.Generator,
    panel: Panel,
    *,
    bed: Bed,
    stay_min: int,
    illnesses: list[Illness],
) -> tuple[Int64, NDArray[np.bool_], Float64]:
    every = panel.every_h * 60 * bed.unit.lab_interval
    times = np.arange(rng.uniform(0, 1) * min(every, 240), stay_min, every)
    times = times + rng.normal(0, 0.1 * every, len(times))
    if rng.random() >= panel.ordered:
        times = times[:0]
    if panel.suspected_every_h:
        extra = np.arange(rng.uniform(0, 120), stay_min, panel.suspected_every_h * 60)
        times = np.concatenate([times, extra[_suspected(extra / 60, illnesses)]])
    at = np.unique(np.clip(times, 0, stay_min - 1).astype(np.int64))
    noted = np.zeros((len(at), len(VARIABLES)), dtype=np.bool_)
    columns = [VARIABLE_INDEX[name] for name in panel.variables]
    noted[:, columns] = rng.random((len(at), len(columns))) < _PANEL_COMPLETE
    turnaround = panel.turnaround_min * rng.lognormal(0, _TURNAROUND_SPREAD, len(at))
    return at, noted, turnaround * 60


def _suspected(hours: Float64, illnesses: list[Illness]) -> NDArray[np.bool_]:
    strength = sum((illness.strength(hours) for illness in illnesses), np.zeros(len(hours)))
    return strength > _SUSPECTED


def _miscalibrated(chart: Chart, bed: Bed) -> Chart:
    for name, off in bed.monitor.offset.items():
        chart.values[:, VARIABLE_INDEX[name]] += off
    temperature = VARIABLE_INDEX["Temp"]
    off_by = np.array([thermometer.offset["Temp"] for thermometer in bed.thermometers])
    chart.values[:, temperature] += off_by[chart.instrument % len(off_by)]
    saturation = VARIABLE_INDEX["O2Sat"]
    chart.values[:, saturation] = np.minimum(chart.values[:, saturation], 100.0)
    return chart
