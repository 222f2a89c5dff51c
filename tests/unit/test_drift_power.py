"""What a baseline can see: the power of one window, held against windows that were drawn."""

import numpy as np
import pytest
from builders import REPO
from hypothesis import given
from hypothesis import strategies as st

from services.core.baseline import EVERYBODY, VITAL_FEATURES, FeatureReference, decode
from services.core.stats.nulls import Null, compress, looks, mean_p_value, mean_threshold
from services.core.stats.power import patients_needed, power

KNOWN = decode((REPO / "services/simulator/baselines/ward.json").read_bytes())
P = 0.05 / 16

references = st.sampled_from(VITAL_FEATURES).map(
    lambda name: KNOWN.cohorts[EVERYBODY].features[name]
)


@given(references, st.integers(20, 400), st.floats(0, 3))
def test_more_patients_and_larger_changes_are_seen_more_often(
    feature: FeatureReference, patients: int, size: float
) -> None:
    change = size * feature.sd
    seen = power(feature.nulls, patients=patients, change=change, p=P)
    assert 0 <= seen <= 1
    assert seen == pytest.approx(power(feature.nulls, patients=patients, change=-change, p=P))
    assert seen <= power(feature.nulls, patients=patients, change=1.1 * change, p=P) + 1e-9
    if seen > 0.1:  # below it chance alone may call as often
        assert seen <= power(feature.nulls, patients=2 * patients, change=change, p=P) + 1e-9


@given(references, st.integers(20, 400))
def test_a_change_as_large_as_the_threshold_is_seen_every_other_time(
    feature: FeatureReference, patients: int
) -> None:
    change = mean_threshold(feature.nulls, patients, P)
    assert power(feature.nulls, patients=patients, change=change, p=P) == pytest.approx(0.5)


@given(references, st.floats(0.3, 3))
def test_the_patients_needed_are_the_fewest(feature: FeatureReference, size: float) -> None:
    change = size * feature.sd
    needed = patients_needed(feature.nulls, change=change, p=P)
    if needed is None:
        assert power(feature.nulls, patients=1000, change=change, p=P) < 0.5
        return
    assert power(feature.nulls, patients=needed, change=change, p=P) >= 0.5
    assert power(feature.nulls, patients=needed - 1, change=change, p=P) < 0.5 or needed == 1


@pytest.mark.parametrize("change", [0.2, 0.5, 0.8])
def test_the_power_is_the_share_of_drawn_windows_that_are_called(change: float) -> None:
    chance = np.random.default_rng(1)
    drawn = chance.normal(0, 1, (20_000, 20)).mean(axis=1)
    tail = compress(np.abs(drawn))
    nulls = [Null(patients=20, draws=len(drawn), psi=tail, mean=tail)]
    fresh = chance.normal(change, 1, (4000, 20)).mean(axis=1)
    called = [looks(nulls) * mean_p_value(nulls, 20, float(mean)) <= P for mean in fresh]
    assert power(nulls, patients=20, change=change, p=P) == pytest.approx(
        np.mean(called), abs=0.03
    )
