"""Every statistic against scikit-learn, scipy or its definition, on random streams."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest  # type: ignore[import-untyped]  # it ships no types
from sklearn.calibration import calibration_curve  # type: ignore[import-untyped]  # it ships no types
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # it ships no types
from sklearn.metrics import (  # type: ignore[import-untyped]  # it ships no types
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from services.core.stats.calibration import (
    brier,
    curve,
    expected_calibration_error,
    fit_line,
    observed_to_expected,
    sigmoid,
)
from services.core.stats.intervals import percentile, poisson_weights, wilson
from services.core.stats.performance import Confusion, Ranked, confusion
from services.core.stats.sketches import SMALLEST_CELL, decile_edges, histogram, shown_edges
from services.core.stats.utility import best_threshold, hour_utilities, stay_utilities

Stream = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def stream(seed: int, rows: int = 600) -> Stream:
    """Scores with ties, labels that follow them, and weights as of a bootstrap replicate."""
    random = np.random.default_rng(seed)
    logit = random.normal(-1, 1.5, rows).round(1)
    label = (random.random(rows) < sigmoid(0.3 + 0.7 * logit)).astype(np.int64)
    return logit, label, random.poisson(1, rows)


@pytest.mark.parametrize("seed", range(5))
def test_ranking_measures_agree_with_scikit_learn(seed: int) -> None:
    score, label, weights = stream(seed)
    ranked = Ranked(score, label)
    assert ranked.auroc() == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert ranked.auprc() == pytest.approx(average_precision_score(label, score), abs=1e-12)
    weighted = roc_auc_score(label, score, sample_weight=weights)
    assert ranked.auroc(weights) == pytest.approx(weighted, abs=1e-12)
    weighted = average_precision_score(label, score, sample_weight=weights)
    assert ranked.auprc(weights) == pytest.approx(weighted, abs=1e-12)


def test_a_weight_of_two_counts_as_two_rows() -> None:
    score, label, weights = stream(9)
    twice = np.repeat(np.arange(len(score)), weights)
    assert Ranked(score, label).auroc(weights) == pytest.approx(
        Ranked(score[twice], label[twice]).auroc(), abs=1e-12
    )


def test_ranking_is_undefined_when_a_class_is_missing() -> None:
    score = np.array([0.1, 0.2])
    assert math.isnan(Ranked(score, np.array([0, 0])).auroc())
    assert math.isnan(Ranked(score, np.array([1, 1])).auroc())
    assert math.isnan(Ranked(score, np.array([0, 0])).auprc())


@pytest.mark.parametrize("seed", range(3))
def test_measures_at_a_threshold_agree_with_scikit_learn(seed: int) -> None:
    score, label, weights = stream(seed)
    alert = score >= -0.5
    found = confusion(alert, label, weights)
    given = {"sample_weight": weights}
    assert found.sensitivity == pytest.approx(recall_score(label, alert, **given))
    assert found.specificity == pytest.approx(recall_score(1 - label, ~alert, **given))
    assert found.ppv == pytest.approx(precision_score(label, alert, **given))
    assert found.npv == pytest.approx(precision_score(1 - label, ~alert, **given))
    assert found.f1 == pytest.approx(f1_score(label, alert, **given))
    assert found.alert_share == pytest.approx(np.average(alert, weights=weights))


def test_net_benefit_is_true_alerts_less_false_ones_at_the_odds() -> None:
    assert Confusion(30, 40, 10, 120).net_benefit(0.2) == pytest.approx(30 / 200 - 40 / 200 / 4)


def test_a_ratio_of_nothing_is_not_a_number() -> None:
    nothing = Confusion(0, 0, 0, 0)
    assert all(map(math.isnan, (nothing.sensitivity, nothing.ppv, nothing.f1, nothing.npv)))


@pytest.mark.parametrize("seed", range(3))
def test_calibration_agrees_with_scikit_learn(seed: int) -> None:
    logit, label, _ = stream(seed, rows=4000)
    score = sigmoid(logit + np.random.default_rng(seed).normal(0, 1e-6, len(logit)))
    assert brier(score, label) == pytest.approx(brier_score_loss(label, score), abs=1e-12)
    bins = curve(score, label)
    observed, announced = calibration_curve(label, score, n_bins=10, strategy="quantile")
    np.testing.assert_allclose([each.observed for each in bins], observed, atol=0.01)
    np.testing.assert_allclose([each.mean_score for each in bins], announced, atol=0.01)
    gap = np.mean([abs(each.observed - each.mean_score) for each in bins])
    assert expected_calibration_error(score, label) == pytest.approx(gap, abs=1e-12)
    assert observed_to_expected(score, label) == pytest.approx(label.sum() / score.sum())


@pytest.mark.parametrize("seed", range(3))
def test_the_logistic_line_is_the_most_likely_one(seed: int) -> None:
    logit, label, _ = stream(seed, rows=4000)
    peer = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], label)
    found = fit_line(logit, label)
    assert found.slope == pytest.approx(peer.coef_[0, 0], abs=1e-5)
    assert found.intercept == pytest.approx(peer.intercept_[0], abs=1e-5)


def test_a_line_is_found_from_log_odds_that_are_far_off() -> None:
    logit, label, _ = stream(4, rows=4000)
    near = fit_line(logit, label)
    far = fit_line(40 + 12 * logit, label)
    assert far.slope * 12 == pytest.approx(near.slope, abs=1e-8)
    assert far.intercept + 40 * far.slope == pytest.approx(near.intercept, abs=1e-8)


@pytest.mark.parametrize("label", [np.zeros(4, int), np.array([0, 0, 1, 1])])
def test_no_line_is_made_up_where_none_fits_best(label: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="no logistic line"):
        fit_line(np.array([-2.0, -1.0, 1.0, 2.0]), label)


@given(st.integers(0, 50), st.integers(1, 50))
def test_the_score_interval_is_wilson_s(successes: int, more: int) -> None:
    trials = successes + more
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_bootstrap_weights_belong_to_the_patient_and_not_to_the_company() -> None:
    ids = [b"a", b"b", b"c"]
    alone = poisson_weights([b"b"], 50)
    np.testing.assert_array_equal(poisson_weights(ids, 50)[1], alone[0])


def test_bootstrap_weights_are_poisson_of_mean_one() -> None:
    weights = poisson_weights([str(number).encode() for number in range(500)], 200)
    shares = np.bincount(weights.ravel(), minlength=5)[:5] / weights.size
    expected = [math.exp(-1) / math.factorial(count) for count in range(5)]
    np.testing.assert_allclose(shares, expected, atol=0.005)


def test_a_bootstrap_weight_comes_from_sha256_of_id_and_replicate() -> None:
    digest = hashlib.sha256(b"patient" + (3).to_bytes(4, "big")).digest()
    uniform = int.from_bytes(digest[:8], "big") / 2**64
    count, below = 0, math.exp(-1)
    while uniform >= below:
        count += 1
        below += math.exp(-1) / math.factorial(count)
    assert poisson_weights([b"patient"], 5)[0, 3] == count


def test_a_percentile_interval_leaves_out_undefined_replicates() -> None:
    assert percentile(np.array([np.nan, *range(201)])) == (5.0, 195.0)


def test_each_patient_weighs_one_however_many_hours_were_measured() -> None:
    random = np.random.default_rng(2)
    patient = random.integers(0, 40, 900)
    found = histogram(random.normal(80, 10, 900), patient, np.array([70.0, 80.0, 90.0]))
    assert found.total == 40
    assert found.weight.sum() == pytest.approx(40)
    assert np.all(found.patients <= 40)


def test_histograms_of_distinct_patients_add_up() -> None:
    random = np.random.default_rng(3)
    patient, values = random.integers(0, 40, 900), random.normal(80, 10, 900)
    edges = decile_edges(values)
    low = patient < 20
    whole = histogram(values, patient, edges)
    first, second = (histogram(values[part], patient[part], edges) for part in (low, ~low))
    np.testing.assert_allclose(first.weight + second.weight, whole.weight)
    np.testing.assert_array_equal(first.patients + second.patients, whole.patients)


def test_edges_close_their_bin_on_the_right_and_no_bin_is_empty() -> None:
    values = np.array([1.0] * 50 + [2.0] * 30 + [3.0] * 20)
    edges = decile_edges(values)
    assert edges.tolist() == [1.0, 2.0]
    found = histogram(values, np.arange(100), edges)
    assert found.weight.tolist() == [50, 30, 20]


@given(st.integers(0, 1000))
def test_no_shown_bin_holds_fewer_than_eleven_patients(seed: int) -> None:
    random = np.random.default_rng(seed)
    patient = random.integers(0, random.integers(1, 60), 200)
    values = random.normal(size=200).round(1)
    edges = shown_edges(values, patient, decile_edges(values))
    cells = histogram(values, patient, edges).patients
    assert len(cells) == 1 or cells.min() >= SMALLEST_CELL


def test_the_best_threshold_gains_at_least_as_much_as_any_other() -> None:
    random = np.random.default_rng(6)
    starts = np.arange(0, 801, 40)
    label = (random.random(20) < 0.5).repeat(40) & (np.arange(800) % 40 > 25)
    score = random.normal(size=800).round(1) + label
    worth = hour_utilities(label.astype(int), starts)
    best = best_threshold(score, worth)
    gains = {
        threshold: stay_utilities(score >= threshold, label.astype(int), starts)[:, 0].sum()
        for threshold in np.unique(score)
    }
    assert gains[best] == pytest.approx(max(gains.values()))
