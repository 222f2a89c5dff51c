"""What a window is held against: the frozen bins, histograms and nulls of a reference period."""

import hashlib
from collections.abc import Iterable
from functools import cached_property
from typing import Final, Literal

import msgspec

from services.core.errors import Reason, Refusal
from services.core.stats.drift import Summary
from services.core.stats.nulls import Null, tail_ranks
from services.core.vitals import VITALS

SCHEMA: Final = "vigil.baseline/1"
EVERYBODY: Final = "all"
"""The cohort that everybody is in."""
SMALLEST_COHORT: Final = 100
"""A unit with fewer reference patients has no reference of its own."""
PRESENCE: Final = ".presence"
VITAL_FEATURES: Final = VITALS + tuple(f"{name}{PRESENCE}" for name in VITALS)
"""The family `vitals`: the values of the bedside vital signs, then whether they were measured.

Presence has two bins, absent and present; its weights count every existing patient-hour.
"""
PRESENCE_EDGES: Final = (0.5,)
WATCHED_SHARE: Final = 0.75
"""Of a cohort's `window_hours`, what the patients of a window must have for it to be judged."""


class FeatureReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One feature of one cohort of the reference.

    Attributes:
        edges: inner edges of the bins, rising, right-closed, to be compared in float32.
        weights: one more than edges; each patient spreads 1 over its hours.
        patients: with an hour of the feature; the sum of the weights.
        mean: of the patients' means.
        sd: of the patients' means.
        nulls: by rising number of patients; empty where the reference does not reach 20.
    """

    edges: tuple[float, ...]
    weights: tuple[float, ...]
    patients: int
    mean: float
    sd: float
    nulls: tuple[Null, ...]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.edges) + 1:
            raise ValueError("edges and weights do not fit")
        if any(len(null.psi) != len(tail_ranks(null.draws)) for null in self.nulls):
            raise ValueError("a null has another grid")

    @property
    def summary(self) -> Summary:
        """As `drift.compare` takes it."""
        return Summary(self.weights, self.mean, self.patients)


class CohortReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All features of one cohort; a feature that too few patients had is not in it.

    Attributes:
        patients: of the cohort.
        hours: patient-hours, of whole stays.
        window_hours: that a patient has in a window, on average; 0 unknown. A window in which
            they have far fewer was not watched from begin to end: its means scatter more than
            those of any drawn window.
        features: by name.
    """

    patients: int
    hours: int
    window_hours: float = 0.0
    features: dict[str, FeatureReference]


class Baseline(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True, weakref=True
):
    """A reference population, as JSON on disk and on changes.v1.

    Attributes:
        schema: vigil.baseline/1.
        kind: `site` can alarm; `training` only says how far away the training population is.
        name: what people call it.
        start: of the period that it was made of, µs; None for simulated stays.
        end: of the period, µs.
        window_h: length of the windows that it can judge.
        family: its features are corrected together.
        features: of the family, in order.
        cohorts: `all`, and `unit=<label>` for every unit with SMALLEST_COHORT patients or more.
    """

    schema: str = SCHEMA
    kind: Literal["site", "training"]
    name: str
    start: int | None = None
    end: int | None = None
    window_h: int = 24
    family: str = "vitals"
    features: tuple[str, ...] = VITAL_FEATURES
    cohorts: dict[str, CohortReference]

    @cached_property
    def digest(self) -> str:
        """sha256 of the JSON, hex: names the baseline in tallies, measurements and changes."""
        return hashlib.sha256(encode(self)).hexdigest()


def encode(baseline: Baseline) -> bytes:
    """Give the canonical JSON: the same baseline gives the same bytes."""
    return msgspec.json.encode(baseline, order="deterministic")


def decode(content: bytes) -> Baseline:
    """Read a baseline from JSON.

    Raises:
        Refusal: it is no JSON, or no baseline of this schema.
    """
    try:
        baseline = msgspec.json.decode(content, type=Baseline)
    except msgspec.ValidationError:
        raise Refusal(Reason.SCHEMA_UNKNOWN, "baseline") from None
    except msgspec.DecodeError:
        raise Refusal(Reason.JSON_SYNTAX, "baseline") from None
    if baseline.schema != SCHEMA or EVERYBODY not in baseline.cohorts:
        raise Refusal(Reason.SCHEMA_UNKNOWN, "baseline.schema")
    return baseline


class Baselines:
    """Which baseline was in force when.

    Args:
        effective: (from when on, µs; the baseline), in the order in which they were published:
            of two that are effective from the same moment the later published one counts.
    """

    def __init__(self, effective: Iterable[tuple[int, Baseline]] = ()) -> None:
        self._effective = sorted(effective, key=lambda entry: entry[0])

    def at(self, start: int) -> Baseline | None:
        """Give the baseline in force at a window's start, µs; None before the first."""
        found = None
        for since, baseline in self._effective:
            if since > start:
                break
            found = baseline
        return found
