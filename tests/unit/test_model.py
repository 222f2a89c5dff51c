"""The served score: the booster's, calibrated, the same bits however rows are batched."""

from pathlib import Path

import lightgbm
import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest
from bundles import LINE, noise, trained, write_bundle
from numpy.typing import NDArray
from onnx import TensorProto, helper

from services.core.errors import CommandError, ExitCode, Stop
from services.core.features import FEATURES
from services.core.stats.calibration import sigmoid
from services.runtime.bundle import load
from services.runtime.model import OnnxModel
from services.training.booster import canonical, margins
from services.training.graph import graph


@pytest.fixture(scope="module")
def text() -> str:
    return trained()


@pytest.fixture(scope="module")
def model(text: str, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel(load(write_bundle(tmp_path_factory.mktemp("noise") / "1", text)))


def holes(rows: int) -> NDArray[np.float32]:
    """Rows in which anything may be missing, also what never was in training."""
    features = noise(rows, seed=3)
    features[np.random.default_rng(4).random(features.shape) < 0.3] = np.nan
    return features


def test_the_score_is_the_calibrated_margin_of_the_booster(model: OnnxModel, text: str) -> None:
    for rows in (noise(2000, seed=2), holes(2000)):
        expected = sigmoid(LINE.intercept + LINE.slope * margins(text, rows))
        np.testing.assert_allclose(model.score(rows), expected, atol=1e-5)
        assert len(np.unique(model.score(rows))) > 100


def test_the_raw_margin_of_the_graph_is_the_booster_s(text: str) -> None:
    session = onnxruntime.InferenceSession(graph(text, LINE), providers=["CPUExecutionProvider"])
    rows = holes(2000)
    (found,) = session.run(["margin"], {"features": rows})
    np.testing.assert_allclose(found, margins(text, rows), atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 31, 127, 129, 256])
def test_a_row_s_score_has_the_same_bits_in_a_batch_of_any_size(
    model: OnnxModel, size: int
) -> None:
    rows = holes(512)
    whole = model.score(rows)
    parts = [model.score(rows[start : start + size]) for start in range(0, 512, size)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_decisions_on_float32_input_are_those_of_the_unrounded_trees() -> None:
    rows = noise(3000, seed=8)
    target = (rows[:, -1] + rows[:, -2] > 100).astype(np.float32)
    names = [feature.name for feature in FEATURES]
    data = lightgbm.Dataset(rows, target, feature_name=names, params={"verbose": -1})
    raw = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 20)
    fresh = noise(3000, seed=9)
    original = np.asarray(raw.predict(fresh, raw_score=True))
    np.testing.assert_allclose(
        margins(canonical(raw.model_to_string()), fresh), original, atol=1e-5
    )


def test_the_model_text_holds_no_range_that_a_single_patient_set(text: str) -> None:
    (line,) = (line for line in text.splitlines() if line.startswith("feature_infos="))
    assert set(line.removeprefix("feature_infos=").split()) == {"none"}


def test_contributions_add_up_to_the_raw_margin(model: OnnxModel) -> None:
    for row in holes(20):
        found = model.contributions(row)
        assert {each.name for each in found} == {feature.name for feature in FEATURES}
        sizes = [abs(each.contribution) for each in found]
        assert sizes == sorted(sizes, reverse=True)
        total = model.base_margin + sum(each.contribution for each in found)
        assert total == pytest.approx(model.margin(row), abs=1e-6)


def test_contributions_name_the_values_they_rest_on(model: OnnxModel) -> None:
    row = noise(1)[0]
    value = dict(zip((feature.name for feature in FEATURES), row.tolist(), strict=True))
    assert all(
        each.value == value[each.name] or (np.isnan(each.value) and np.isnan(value[each.name]))
        for each in model.contributions(row)
    )


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((3, len(FEATURES))),
        np.zeros((3, len(FEATURES) - 1), np.float32),
        np.zeros(len(FEATURES), np.float32),
    ],
)
def test_input_of_another_shape_or_type_stops(model: OnnxModel, rows: NDArray[np.float32]) -> None:
    with pytest.raises(Stop):
        model.score(rows)


def passing_on(width: int, output: str = "score") -> bytes:
    """A graph whose score is the sum of a row, whatever that is."""
    nodes = [
        helper.make_node("ReduceSum", ["features", "axis"], [output], keepdims=0),
    ]
    body = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N"])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    opsets = [helper.make_opsetid("", 15)]
    return bytes(helper.make_model(body, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.01, 1.01])
def test_an_output_that_is_no_probability_stops(tmp_path: Path, text: str, bad: float) -> None:
    path = write_bundle(tmp_path / "sum" / "1", text, model_onnx=passing_on(len(FEATURES)))
    model = OnnxModel(load(path))
    rows = np.zeros((4, len(FEATURES)), np.float32)
    assert model.score(rows).tolist() == [0, 0, 0, 0]
    rows[2, 5] = bad
    with pytest.raises(Stop):
        model.score(rows)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a graph", passing_on(3), passing_on(len(FEATURES), output="margin")],
)
def test_a_graph_that_cannot_serve_is_refused(tmp_path: Path, text: str, content: bytes) -> None:
    path = write_bundle(tmp_path / "broken" / "1", text, model_onnx=content)
    with pytest.raises(CommandError) as caught:
        OnnxModel(load(path))
    assert caught.value.exit_code is ExitCode.CONFIGURATION


def test_a_truncated_graph_is_refused(tmp_path: Path, text: str) -> None:
    whole = graph(text, LINE)
    path = write_bundle(tmp_path / "cut" / "1", text, model_onnx=whole[: len(whole) // 2])
    with pytest.raises(CommandError):
        OnnxModel(load(path))


def test_a_graph_with_data_outside_the_bundle_is_refused(tmp_path: Path, text: str) -> None:
    model = onnx.load_from_string(passing_on(len(FEATURES)))
    (axis,) = model.graph.initializer
    axis.ClearField("int64_data")
    axis.data_location = TensorProto.EXTERNAL
    axis.external_data.add(key="location", value="elsewhere.bin")
    content = bytes(model.SerializeToString())
    path = write_bundle(tmp_path / "outside" / "1", text, model_onnx=content)
    (path / "elsewhere.bin").write_bytes((1).to_bytes(8, "little"))
    with pytest.raises(CommandError):
        OnnxModel(load(path))
