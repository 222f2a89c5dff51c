"""How bodies behave: drifting around a person's own level, by day and night, well and septic."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.vitals import VARIABLE_INDEX, VARIABLES
from services.simulator.hospital import PHYSIOLOGY

Float64 = NDArray[np.float64]

LATENT: Final = tuple(PHYSIOLOGY)
"""The variables that are drawn; the others follow from them."""
_PLACE: Final = {name: place for place, name in enumerate(LATENT)}
_TABLE: Final = {
    field: np.array([getattr(row, field) for row in PHYSIOLOGY.values()], dtype=np.float64)
    for field in ("person", "drift", "noise", "half_h", "sepsis", "day", "low", "high", "decimals")
}
_LOG: Final = np.array([row.log for row in PHYSIOLOGY.values()])
_MEAN: Final = np.array([row.mean for row in PHYSIOLOGY.values()])
_LEVEL: Final = np.where(_LOG, np.log(np.where(_LOG, _MEAN, 1.0)), _MEAN)
_KEPT: Final = 0.5 ** (1 / _TABLE["half_h"])
"""Share of a drift that is left after an hour."""

_WARMEST_HOUR: Final = 17.0
_HEMATOCRIT_PER_HEMOGLOBIN: Final = 2.95
_DIRECT: Final[list[str]] = [name for name in VARIABLES if name in _PLACE]
DECIMALS: Final[dict[str, int]] = {name: PHYSIOLOGY[name].decimals for name in _DIRECT} | {
    "SBP": 0,
    "DBP": 0,
    "Hct": 1,
}
"""Digits after the point with which each variable is reported in the model's unit."""


class Illness(NamedTuple):
    """A course that comes and goes.

    Attributes:
        onset_h: hours after admission at which it is full-blown.
        severity: 1 is the shift that `physiology.toml` states.
        rise_h: hours from a tenth to nine tenths of it.
        treated_h: hours from onset until it begins to fade.
        fade_h: hours in which half of it is gone.
        shape: (len(LATENT),) how strongly each variable takes part; 1 is fully.
        septic: whether it is sepsis; else something that looks like it.
    """

    onset_h: float
    severity: float
    rise_h: float
    treated_h: float
    fade_h: float
    shape: Float64
    septic: bool

    def strength(self, hours: Float64) -> Float64:
        """Give its strength at hours after admission, 0 to about `severity`."""
        slope = np.log(81) / self.rise_h
        rising = 1 / (1 + np.exp(-slope * (hours - self.onset_h + self.rise_h / 4)))
        fading = 0.5 ** (np.maximum(hours - self.onset_h - self.treated_h, 0) / self.fade_h)
        return np.asarray(self.severity * rising * fading)


def draw_illness(rng: np.random.Generator, stay_h: float, *, septic: bool) -> Illness:
    """Draw a course of sepsis, or of something else that moves some of the same signs."""
    shape = np.clip(rng.normal(1.0, 0.3, len(LATENT)), 0.2, 1.8)
    if septic:
        # One in ten grows cold instead of hot.
        shape[_PLACE["Temp"]] *= -0.8 if rng.random() < 0.1 else 1.0  # noqa: PLR2004 - said above
        severity = rng.uniform(0.6, 1.5)
    else:
        shape *= rng.random(len(LATENT)) < 0.4  # noqa: PLR2004 - some of the signs
        severity = rng.uniform(0.3, 0.9)
    return Illness(
        onset_h=rng.uniform(12.0, max(13.0, 0.85 * stay_h)),
        severity=severity,
        rise_h=rng.uniform(5.0, 14.0),
        treated_h=rng.uniform(3.0, 10.0),
        fade_h=rng.uniform(10.0, 36.0),
        shape=shape,
        septic=septic,
    )


def true_hours(
    rng: np.random.Generator, stay_h: int, *, first_local_hour: float, illnesses: list[Illness]
) -> Float64:
    """Draw what is true of one patient at each full hour of the stay.

    Args:
        rng: draws the person's own level and the drift around it.
        stay_h: length of the stay.
        first_local_hour: local time of day at admission, hours.
        illnesses: courses that come on top.

    Returns:
        (stay_h + 1, len(LATENT)), logarithms where the variable is log.
    """
    hours = np.arange(stay_h + 1, dtype=np.float64)
    own = _LEVEL + rng.normal(0, 1, len(LATENT)) * _TABLE["person"]
    shocks = rng.normal(0, 1, (len(hours), len(LATENT))) * _TABLE["drift"]
    shocks[1:] *= np.sqrt(1 - _KEPT**2)
    for hour in range(1, len(hours)):
        shocks[hour] += _KEPT * shocks[hour - 1]
    rhythm = np.cos(2 * np.pi * (hours + first_local_hour - _WARMEST_HOUR) / 24)
    truth = own + shocks + rhythm[:, None] * _TABLE["day"]
    for illness in illnesses:
        truth += illness.strength(hours)[:, None] * (illness.shape * _TABLE["sepsis"])
    return truth


def measure(rng: np.random.Generator, truth: Float64, at_h: Float64) -> Float64:
    """Measure all variables at some moments.

    Args:
        rng: draws the error of each measurement.
        truth: from `true_hours`.
        at_h: (n,) hours after admission, within the stay.

    Returns:
        (n, len(VARIABLES)) in model units, within what can be, not rounded.
    """
    before = np.minimum(at_h.astype(np.int64), len(truth) - 2)
    part = (at_h - before)[:, None]
    value = truth[before] * (1 - part) + truth[before + 1] * part
    value += rng.normal(0, 1, value.shape) * _TABLE["noise"]
    value[:, _LOG] = np.exp(value[:, _LOG])
    value = np.clip(value, _TABLE["low"], _TABLE["high"])
    return _arranged(value)


def _arranged(latent: Float64) -> Float64:
    values = np.empty((len(latent), len(VARIABLES)))
    for name in _DIRECT:
        values[:, VARIABLE_INDEX[name]] = latent[:, _PLACE[name]]
    mean, pulse = latent[:, _PLACE["MAP"]], latent[:, _PLACE["pulse_pressure"]]
    values[:, VARIABLE_INDEX["SBP"]] = mean + pulse * 2 / 3
    values[:, VARIABLE_INDEX["DBP"]] = np.maximum(mean - pulse / 3, 20.0)
    values[:, VARIABLE_INDEX["Hct"]] = _HEMATOCRIT_PER_HEMOGLOBIN * latent[:, _PLACE["Hgb"]]
    return values
