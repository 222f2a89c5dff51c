"""The PhysioNet 2019 utility against the values published for recorded patients."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from services.core.stats.utility import hour_utilities, normalized, stay_utilities

DATA = Path(__file__).parents[3] / "shared" / "data" / "physionet2019"
EXPECTED = DATA / "expected_utility.json"


def recorded() -> pl.DataFrame:
    if not EXPECTED.exists():
        pytest.skip(reason="../shared/data/physionet2019 is not on this machine")
    return pl.read_parquet(DATA / "demo200.parquet")


def rule(name: str, rows: pl.DataFrame) -> NDArray[np.bool_]:
    filled = rows.with_columns(pl.all().forward_fill().over("patient_id")).fill_null(0)
    rules = {
        "never": pl.col("HR") < -1,
        "always": pl.col("HR") > -1,
        "hr_over_100": pl.col("HR") > 100,
        "resp_over_22_and_hr_over_90": (pl.col("Resp") > 22) & (pl.col("HR") > 90),
        "iculos_over_48": pl.col("ICULOS") > 48,
        "label_itself": pl.col("SepsisLabel") == 1,
    }
    return filled.select(rules[name]).to_series().to_numpy()


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "never",
        "always",
        "hr_over_100",
        "resp_over_22_and_hr_over_90",
        "iculos_over_48",
        "label_itself",
    ],
)
def test_each_published_rule_has_its_published_utility(name: str) -> None:
    rows = recorded()
    label = rows["SepsisLabel"].to_numpy()
    starts = np.append(np.unique(rows["patient_id"].to_numpy(), return_index=True)[1], len(rows))
    alert = rule(name, rows)
    expected = json.loads(EXPECTED.read_text())["expected"][name]
    found = float(normalized(stay_utilities(alert, label, starts).sum(axis=0)))
    assert found == pytest.approx(expected["normalized_observed_utility"], abs=1e-12)
    assert np.mean(alert == label) == pytest.approx(expected["accuracy"], abs=1e-12)


def slow_utility(alert: list[int], label: list[int]) -> float:
    """Read off the challenge's description, hour by hour."""
    onset = label.index(1) + 6 if 1 in label else None
    worth = 0.0
    for hour, called in enumerate(alert):
        if onset is None:
            worth += -0.05 if called else 0.0
            continue
        t = hour - onset
        if t > 3:
            continue
        if called:
            worth += max((t + 12) / 6, -0.05) if t <= -6 else (3 - t) / 9
        elif t > -6:
            worth += -2 * (t + 6) / 9
    return worth


def test_a_stay_gains_the_sum_of_its_hours() -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        length = int(random.integers(1, 60))
        switch = int(random.integers(0, 2 * length))
        label = [int(hour >= switch) for hour in range(length)]
        alert = random.integers(0, 2, length)
        totals = stay_utilities(alert == 1, np.array(label), np.array([0, length]))[0]
        assert totals[0] == pytest.approx(slow_utility(alert.tolist(), label))
        assert totals[2] == pytest.approx(slow_utility([0] * length, label))


def test_no_alerts_gain_more_than_the_best_ones() -> None:
    label = np.array([0] * 20 + [1] * 12)
    starts = np.array([0, 32])
    best = stay_utilities(np.zeros(32, bool), label, starts)[0, 1]
    assert best == pytest.approx(hour_utilities(label, starts).max(axis=1).sum())


def test_the_utility_is_undefined_without_a_septic_stay() -> None:
    totals = stay_utilities(np.ones(5, bool), np.zeros(5, int), np.array([0, 5]))
    assert np.isnan(normalized(totals.sum(axis=0)))
