"""What a bundle is worth: every measure against an oracle, every wrong input against its error."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from bundles import write_bundle
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # no types
from sklearn.metrics import (  # type: ignore[import-untyped]  # it ships no types
    average_precision_score,
    brier_score_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)
from stays import made_up, write_parquet, write_psv
from typer.testing import CliRunner, Result

from services.cli.main import app
from services.core.events import Cause
from services.core.features import FEATURES, Standing
from services.core.stats.calibration import fit_line
from services.core.stats.intervals import poisson_weights
from services.core.stats.utility import before_onset, normalized, stay_utilities
from services.training.booster import Lessons, Recipe, fit
from services.training.calibrated import _line
from services.training.estimates import Scored, Weights
from services.training.evaluate import report
from services.training.matrix import batches
from services.training.measures import measures
from services.training.served import as_served
from services.training.source import Stays, read, silent

PATIENTS = 240
THRESHOLD = 0.6
NAMES = [feature.name for feature in FEATURES]


@pytest.fixture(scope="module")
def stays(tmp_path_factory: pytest.TempPathFactory) -> Stays:
    return read(write_parquet(tmp_path_factory.mktemp("data") / "stays.parquet", PATIENTS, seed=3))


@pytest.fixture(scope="module")
def scored(stays: Stays) -> Scored:
    """Scores that know something, coarse enough for ties."""
    random = np.random.default_rng(5)
    logit = 1.2 * stays.label - 1.5 + random.normal(0, 1, len(stays.label))
    score = np.round(1 / (1 + np.exp(-logit)), 3)
    return Scored(stays, score, score >= THRESHOLD, THRESHOLD)


@pytest.fixture(scope="module")
def weights(stays: Stays) -> Weights:
    return poisson_weights([name.encode() for name in stays.ids])


@pytest.fixture(scope="module")
def found(scored: Scored, weights: Weights) -> dict[str, Any]:
    return measures(scored, weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose model sees a fast heart."""
    random = np.random.default_rng(6)
    rows = random.normal(90, 15, (3000, len(FEATURES))).astype(np.float32)
    target = rows[:, NAMES.index("HR_last")] > 100
    text = fit(rows, Lessons(target, np.ones(len(target))), names=NAMES, recipe=Recipe(5))
    return write_bundle(tmp_path_factory.mktemp("models") / "m" / "1", text)


# --- oracles


def counted(scored: Scored) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.bool_]]:
    rows = before_onset(scored.stays.label, scored.stays.starts)
    return scored.score[rows], scored.stays.label[rows], scored.alert[rows]


def test_ranking_calibration_and_alerts_agree_with_scikit_learn(
    scored: Scored, found: dict[str, Any]
) -> None:
    score, label, alert = counted(scored)
    oracle = {
        "auroc": roc_auc_score(label, score),
        "auprc": average_precision_score(label, score),
        "challenge_auroc": roc_auc_score(scored.stays.label, scored.score),
        "challenge_auprc": average_precision_score(scored.stays.label, scored.score),
        "brier": brier_score_loss(label, score),
        "sensitivity": recall_score(label, alert),
        "ppv": precision_score(label, alert),
        "alert_share": alert.mean(),
    }
    for name, value in oracle.items():
        assert found[name]["value"] == pytest.approx(value, abs=6e-5), name


def test_the_calibration_line_is_that_of_an_unpenalized_logistic_regression(
    scored: Scored, found: dict[str, Any]
) -> None:
    score, label, _ = counted(scored)
    logit = np.log(score / (1 - score))[:, None]
    line = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit, label)
    assert found["calibration_slope"]["value"] == pytest.approx(line.coef_[0, 0], abs=1e-3)
    assert found["calibration_intercept"]["value"] == pytest.approx(line.intercept_[0], abs=1e-3)


def test_ece_and_the_top_decile_are_those_of_their_definition(
    scored: Scored, found: dict[str, Any]
) -> None:
    score, label, _ = counted(scored)
    order = np.argsort(score, kind="stable")
    tenths = np.array_split(order, 10)
    gap = sum(abs(score[rows].sum() - label[rows].sum()) for rows in tenths)
    assert found["ece"]["value"] == pytest.approx(gap / len(score), abs=6e-5)
    top = label[tenths[-1]].sum() / score[tenths[-1]].sum()
    assert found["top_decile_o_e"]["value"] == pytest.approx(top, abs=6e-5)


def test_first_alerts_are_counted_as_told_stay_by_stay(
    scored: Scored, found: dict[str, Any]
) -> None:
    stays, leads = scored.stays, []
    hits = false = septic = 0
    for start, end in itertools.pairwise(stays.starts.tolist()):
        alerts = np.flatnonzero(scored.alert[start:end])
        onsets = np.flatnonzero(stays.label[start:end])
        septic += bool(len(onsets))
        lead = onsets[0] + 6 - alerts[0] if len(onsets) and len(alerts) else 0
        hits += lead > 0
        false += bool(len(alerts)) and not lead > 0
        if len(onsets) and onsets[0] > 0:
            leads.append(max(float(lead), 0.0))
    assert found["first_alert_sensitivity"]["value"] == pytest.approx(hits / septic, abs=6e-5)
    assert found["first_alert_ppv"]["value"] == pytest.approx(hits / (hits + false), abs=6e-5)
    rate = 100 * (hits + false) / (len(stays.hour) / 24)
    assert found["first_alert_per_100_patient_days"]["value"] == pytest.approx(rate, abs=6e-5)
    median = float(np.quantile(leads, 0.5, method="inverted_cdf"))
    assert found["first_alert_lead_h"]["median"] == (median or None)
    low, high = found["first_alert_lead_h"]["median_interval"]
    assert low is None or low <= median <= high


def test_an_interval_is_what_measuring_resampled_patients_gives(
    scored: Scored, weights: Weights, found: dict[str, Any]
) -> None:
    score, label, _ = counted(scored)
    of = weights[scored.stays.patient[before_onset(scored.stays.label, scored.stays.starts)]]
    samples = {
        "auroc": [roc_auc_score(label, score, sample_weight=of[:, b]) for b in range(200)],
        "brier": [brier_score_loss(label, score, sample_weight=of[:, b]) for b in range(200)],
    }
    for name, values in samples.items():
        assert found[name]["interval"] == pytest.approx(
            np.percentile(values, [2.5, 97.5]), abs=6e-5
        )


def test_one_newton_step_leads_to_the_line_of_resampled_patients(
    scored: Scored, weights: Weights
) -> None:
    score, label, _ = counted(scored)
    patient = scored.stays.patient[before_onset(scored.stays.label, scored.stays.starts)]
    found = _line(score, label, patient, weights[:, :60])["calibration_slope"]
    logit = np.log(score / (1 - score))
    slopes = []
    for replicate in range(60):
        rows = np.repeat(np.arange(len(score)), weights[patient, replicate])
        slopes.append(fit_line(logit[rows], label[rows]).slope)
    low, high = np.percentile(slopes, [2.5, 97.5])
    assert found["interval"] == pytest.approx((low, high), abs=(high - low) / 10)
    assert low < found["value"] < high


def test_every_measure_of_all_patients_has_an_interval_around_it(found: dict[str, Any]) -> None:
    several = {name: each for name, each in found.items() if isinstance(each, dict)}
    assert set(several) >= {"utility", "auprc", "ece", "top_decile_o_e", "net_benefit"}
    for name, each in several.items():
        if name != "first_alert_lead_h":
            low, high = each["interval"]
            assert low < high
            # ECE is a mean of distances: resampling can only add to it.
            assert name == "ece" or low <= each["value"] <= high, name


def test_subgroups_are_the_patients_of_that_sex_or_age_and_no_others(scored: Scored) -> None:
    groups = report(scored, say=silent)["subgroups"]
    for dimension in ("sex", "age_band"):
        assert sum(group["patients"] for group in groups[dimension].values()) == PATIENTS
    rows = scored.stays.sex == 0
    women = rows & before_onset(scored.stays.label, scored.stays.starts)
    auroc = roc_auc_score(scored.stays.label[women], scored.score[women])
    assert groups["sex"]["female"]["auroc"]["value"] == pytest.approx(auroc, abs=6e-5)
    assert groups["sex"]["female"]["hours"] == np.count_nonzero(rows)


# --- as served


def few_vitals(standing: Standing) -> NDArray[np.uint8]:
    """Silent before five values of the heart rate are known, and for the youngest."""
    few = np.where(standing.count[:, 0] < 5, Cause.TOO_FEW_VITALS, Cause.NONE)
    return np.where(standing.age < 30, Cause.OUTSIDE_SUPPORT, few).astype(np.uint8)


def test_a_service_that_never_abstains_is_worth_what_the_challenge_measures(
    scored: Scored, weights: Weights, found: dict[str, Any]
) -> None:
    def never(standing: Standing) -> NDArray[np.uint8]:
        return np.zeros(len(standing.age), np.uint8)

    served = as_served(scored, weights, never)
    assert served.pop("no_score")["value"] == 0
    assert not served.pop("no_score_by_cause")
    assert served == found


def test_where_the_service_abstains_it_is_silent_and_only_its_scores_are_ranked(
    scored: Scored, weights: Weights, found: dict[str, Any]
) -> None:
    stays = scored.stays
    cause = np.concatenate([few_vitals(standing) for _, standing in batches(stays)])
    spoken = cause == 0
    served = as_served(scored, weights, few_vitals)
    assert served["hours"] == np.count_nonzero(spoken) < found["hours"]
    totals = stay_utilities(scored.alert & spoken, stays.label, stays.starts).sum(axis=0)
    assert served["utility"]["value"] == pytest.approx(float(normalized(totals)), abs=6e-5)
    rows = spoken & before_onset(stays.label, stays.starts)
    oracle = {
        "auroc": roc_auc_score(stays.label[rows], scored.score[rows]),
        "challenge_auroc": roc_auc_score(stays.label[spoken], scored.score[spoken]),
        "brier": brier_score_loss(stays.label[rows], scored.score[rows]),
        "sensitivity": recall_score(stays.label[rows], scored.alert[rows]),
        "alert_share": scored.alert[rows].mean(),
    }
    for name, value in oracle.items():
        assert served[name]["value"] == pytest.approx(value, abs=6e-5), name
    assert served["no_score"]["value"] == pytest.approx(1 - spoken.mean(), abs=6e-5)
    parts = served["no_score_by_cause"]
    assert set(parts) == {"too_few_vitals", "outside_support"}
    whole = sum(part["value"] for part in parts.values())
    assert whole == pytest.approx(served["no_score"]["value"], abs=2e-4)


def test_a_silence_of_few_patients_is_no_figure(scored: Scored, weights: Weights) -> None:
    highest = np.nanmax(scored.stays.values[:, 0])

    def rare(standing: Standing) -> NDArray[np.uint8]:
        return np.where(standing.last[:, 0] == highest, Cause.TOO_OLD, Cause.NONE).astype(np.uint8)

    served = as_served(scored, weights, rare)
    assert served["no_score_by_cause"] == {"too_old": {"value": None, "state": "insufficient"}}


# --- the command


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stack runs here that the command could adopt."""
    monkeypatch.setenv("VIGIL_HOME", str(tmp_path / "home"))


def vigil(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_results_are_on_stdout_and_progress_on_stderr(folder: Path, tmp_path: Path) -> None:
    data, file = write_parquet(tmp_path / "stays.parquet", 40), tmp_path / "report.json"
    done = vigil("--model", folder, "--data", data, "--json", "-")
    assert done.exit_code == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["schema"] == "vigil.evaluate/1"
    assert not told["data"]["trained_on"]
    assert "scoring" in done.stderr
    done = vigil("--model", folder, "--data", data, "--json", file)
    assert json.loads(file.read_text()) == told
    assert "AUROC" in done.stdout
    assert "first alert: median lead" in done.stdout
    assert "as served" in done.stdout
    assert "too_few_vitals" in told["as_served"]["no_score_by_cause"]


def test_a_budget_takes_the_place_of_the_bundle_s_threshold_and_no_label_moves_it(
    folder: Path, tmp_path: Path
) -> None:
    table, told = made_up(40), []
    for number, labels in enumerate((pl.col("SepsisLabel"), pl.lit(0, pl.Int8))):
        data = tmp_path / f"{number}.parquet"
        table.with_columns(SepsisLabel=labels).write_parquet(data)
        done = vigil("--model", folder, "--data", data, "--json", "-", "--alert-share", 0.1)
        told.append(json.loads(done.stdout))
    assert told[0]["threshold"] == told[1]["threshold"] != 0.2
    assert told[0]["threshold_from"] == "scores, 0.1 of the hours"
    assert 0.02 < told[1]["all"]["alert_share"]["value"] <= 0.1
    assert vigil("--model", folder, "--data", tmp_path, "--alert-share", 2).exit_code == 2


def test_another_hospital_s_psv_folder_without_units_is_measured_too(
    folder: Path, tmp_path: Path
) -> None:
    whole = made_up(30, seed=9)
    psv = write_psv(tmp_path / "psv", whole)
    for file in psv.iterdir():
        table = pl.read_csv(file, separator="|", infer_schema=False)
        table.drop("Unit1", "Unit2", "HospAdmTime").write_csv(file, separator="|")
    whole.write_parquet(tmp_path / "stays.parquet")
    told = [
        json.loads(vigil("--model", folder, "--data", data, "--json", "-").stdout)
        for data in (psv, tmp_path / "stays.parquet")
    ]
    assert told[0]["all"] == told[1]["all"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (made_up(1).drop("Lactate"), "Columns are missing: Lactate."),
        (made_up(1).drop("SepsisLabel"), "Columns are missing: SepsisLabel."),
        (made_up(1).with_columns(SepsisLabel=pl.lit(None, pl.Int8)), "SepsisLabel must be 0 or 1"),
        (made_up(1).with_columns(patient_id=pl.lit(None, pl.String)), "no patient_id"),
        (made_up(1).clear(), "no patient"),
    ],
)
def test_data_that_cannot_be_measured_are_named_and_refused(
    folder: Path, tmp_path: Path, fault: pl.DataFrame, said: str
) -> None:
    fault.write_parquet(tmp_path / "bad.parquet")
    done = vigil("--model", folder, "--data", tmp_path / "bad.parquet")
    assert done.exit_code == 5
    assert said in done.stderr
    assert "what to do" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_an_empty_folder_is_refused_and_one_that_is_not_there_is_a_mistake(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert vigil("--model", folder, "--data", tmp_path / "empty").exit_code == 5
    assert vigil("--model", folder, "--data", tmp_path / "nowhere").exit_code == 3
    assert vigil("--model", tmp_path / "empty", "--data", tmp_path / "empty").exit_code == 3


def test_a_broken_psv_file_is_told_by_its_place_because_its_name_is_a_patient(
    folder: Path, tmp_path: Path
) -> None:
    psv = write_psv(tmp_path / "psv", made_up(3))
    (psv / "patient-0001.psv").write_text("")
    done = vigil("--model", folder, "--data", psv)
    assert done.exit_code == 5
    assert "number 2" in done.stderr
    assert "patient-0001" not in done.stderr


def test_a_report_that_cannot_be_written_is_a_clear_error(folder: Path, tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "stays.parquet", 4)
    done = vigil("--model", folder, "--data", data, "--json", tmp_path / "nowhere" / "r.json")
    assert done.exit_code == 3
    assert "cannot be written" in done.stderr
