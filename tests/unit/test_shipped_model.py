"""The bundle that is shipped: what it may see, what it promises, what it must not hold."""

import hashlib
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import polars as pl
import pytest
from bundles import noise
from numpy.typing import NDArray

from services.core.features import FEATURES
from services.core.policy import Policy
from services.core.stats.calibration import Line, sigmoid
from services.core.stats.nulls import Null
from services.core.vitals import VARIABLES, VITALS
from services.runtime.bundle import FILES, MANIFEST, Bundle, load, support_of
from services.runtime.model import OnnxModel
from services.training.booster import margins
from services.training.card import holds
from services.training.matrix import matrix
from services.training.source import read

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "models" / "sepsis" / "1.0.0"
DATA = ROOT.parent / "shared" / "data" / "physionet2019" / "devA.parquet"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load(FOLDER)


def test_the_shipped_model_sees_every_feature_and_no_clock_or_place(bundle: Bundle) -> None:
    assert bundle.features == tuple(feature.name for feature in FEATURES)
    assert lightgbm.Booster(model_str=bundle.booster).feature_name() == list(bundle.features)
    seen = " ".join(bundle.features)
    assert not any(name in seen for name in ("ICULOS", "Unit", "HospAdm"))


def test_the_shipped_model_holds_the_bars_it_was_built_to(bundle: Bundle) -> None:
    rows = bundle.card["study"]
    assert set(rows) == {"full", "shipped", "strict", "time_only"}
    shipped = rows["shipped"]
    assert shipped["utility"]["value"] >= 0.42
    assert shipped["challenge_auroc"]["value"] >= 0.82
    assert shipped["ece"]["value"] <= 0.02
    assert 0.8 <= shipped["calibration_slope"]["value"] <= 1.2
    assert 0.9 <= shipped["top_decile_o_e"]["value"] <= 1.1
    assert rows["full"]["utility"]["value"] >= 0.44
    assert shipped["utility"]["value"] > rows["strict"]["utility"]["value"]


def test_the_shipped_graph_and_booster_agree_also_on_what_is_missing(bundle: Bundle) -> None:
    rows = noise(2000)
    rows[np.random.default_rng(0).random(rows.shape) < 0.4] = np.nan
    line = Line(**bundle.card["platt"])
    expected = sigmoid(line.intercept + line.slope * margins(bundle.booster, rows))
    np.testing.assert_allclose(OnnxModel(bundle).score(rows), expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 129])
def test_a_shipped_score_has_the_same_bits_in_a_batch_of_any_size(
    bundle: Bundle, size: int
) -> None:
    model, rows = OnnxModel(bundle), noise(512)
    parts = [model.score(rows[start : start + size]) for start in range(0, 512, size)]
    assert np.concatenate(parts).tobytes() == model.score(rows).tobytes()


def add_up(bundle: Bundle, rows: NDArray[np.float32]) -> None:
    """Hold the contributions of each row against the margin of the graph that serves."""
    model = OnnxModel(bundle)
    session = onnxruntime.InferenceSession(bundle.onnx, providers=["CPUExecutionProvider"])
    served = session.run(["margin"], {"features": rows})[0]
    for row, margin in zip(rows, served, strict=True):
        total = model.base_margin + sum(each.contribution for each in model.contributions(row))
        assert total == pytest.approx(model.margin(row), abs=1e-6)
        assert total == pytest.approx(float(margin), abs=1e-4)  # the graph adds in float32


def test_shipped_contributions_add_up_whatever_is_missing_or_extreme(bundle: Bundle) -> None:
    rows = noise(120, seed=12)
    random = np.random.default_rng(13)
    # From rows of which everything is known to one of which nothing is.
    rows[random.random(rows.shape) < np.linspace(0, 1, len(rows))[:, None]] = np.nan
    rows[:20] *= np.float32(1e4)
    rows[20:40] *= -1
    add_up(bundle, rows)


@pytest.mark.data
def test_shipped_contributions_add_up_for_recorded_patients(
    bundle: Bundle, shared_data: Path
) -> None:
    stays = read(shared_data / "physionet2019" / "demo200.parquet")
    rows = bundle.select(matrix(stays))
    add_up(bundle, rows[np.random.default_rng(14).choice(len(rows), 120, replace=False)])


def test_the_shipped_policy_is_one_that_the_service_reads(bundle: Bundle) -> None:
    policy = msgspec.convert(bundle.policy, Policy)
    assert policy.threshold == bundle.card["threshold"]
    assert policy.clear_below < policy.threshold


def test_the_shipped_card_cites_its_data_and_states_its_license(bundle: Bundle) -> None:
    data = bundle.card["data"]
    assert data["license"] == "CC BY 4.0"
    assert any("10.13026/v64v-d857" in citation for citation in data["cite"])
    assert data["sha256"] == bundle.manifest["data"]["sha256"]
    for part in ("use", "users", "population", "not_for"):
        assert bundle.card["intended"][part]


def test_the_shipped_reference_covers_every_variable(bundle: Bundle) -> None:
    assert set(bundle.reference["variables"]) == set(VARIABLES)
    for each in bundle.reference["variables"].values():
        assert each["kind"] == "absent" or len(each["weight"]) == len(each["edges"]) + 1


def test_the_shipped_bundle_is_small_and_names_no_patient(bundle: Bundle) -> None:
    del bundle
    for name in (*FILES, MANIFEST):
        content = (FOLDER / name).read_bytes()
        assert len(content) < 3_000_000
        assert b"p000" not in content
        assert b"patient_id" not in content


def test_the_shipped_bundle_says_whom_it_can_speak_of_and_what_chance_does(
    bundle: Bundle,
) -> None:
    limits = support_of(bundle)
    assert limits is not None
    assert limits.youngest >= 10
    assert limits.most_outside >= 1
    assert np.isfinite(limits.low[: len(VITALS) - 1]).all()  # of all but EtCO2, never measured
    nulls = msgspec.convert(bundle.reference["nulls"], dict[str, list[Null]])
    assert {"HR", "HR.presence", "Temp"} <= set(nulls)


@pytest.mark.data
def test_the_manifest_names_the_data_by_their_sha256(bundle: Bundle) -> None:
    if not DATA.exists():
        pytest.skip(reason="../shared/data/physionet2019 is not on this machine")
    assert hashlib.sha256(DATA.read_bytes()).hexdigest() == bundle.manifest["data"]["sha256"]


@pytest.mark.data
def test_the_demonstration_s_patients_are_known_to_be_training_patients(bundle: Bundle) -> None:
    demo, whole = DATA.with_name("demo200.parquet"), DATA
    if not demo.exists():
        pytest.skip(reason="../shared/data/physionet2019 is not on this machine")
    assert holds(bundle.manifest["data"]["sha256"], hashlib.sha256(demo.read_bytes()).hexdigest())
    ids = [
        set(pl.read_parquet(file, columns=["patient_id"])["patient_id"]) for file in (demo, whole)
    ]
    assert ids[0] <= ids[1]
