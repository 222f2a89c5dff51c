"""What is wrong with a bundle, command and service refuse and say; the old one stays."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import LINE, trained, write_bundle
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner
from wards import CODEC, deployment, engine

from services.cli.main import app
from services.core.events import Role
from services.core.features import FEATURES
from services.core.lineup import History, LineUp, Seat
from services.runtime.bundle import MANIFEST, BundleRefused, Unfit, digest_of
from services.runtime.ports import Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring.__main__ import opener
from services.scoring.fleet import Fleet
from services.training.graph import graph
from services.training.pack import as_json

WIDTH = len(FEATURES)
Spoil = Callable[[Path, str], object]


@pytest.fixture(scope="module")
def text() -> str:
    return trained()


def weighing(weights: TensorProto) -> bytes:
    """Make a graph whose score is the weighed sum of a row, whatever that is."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [-1])
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["column"]),
        helper.make_node("Reshape", ["column", "shape"], ["score"]),
    ]
    ends = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", WIDTH]),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
    ]
    body = helper.make_graph(nodes, "sum", ends[:1], ends[1:], [weights, shape])
    opsets = [helper.make_opsetid("", 15)]
    return bytes(helper.make_model(body, opset_imports=opsets, ir_version=8).SerializeToString())


def nothing_but_zeros() -> TensorProto:
    """Weights by which a row of numbers weighs 0, and a row with a gap NaN."""
    return numpy_helper.from_array(np.zeros((WIDTH, 1), np.float32), "weights")


def elsewhere(path: Path) -> TensorProto:
    """Weights that lie in a file beside the graph, and where the process runs."""
    weights = nothing_but_zeros()
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    path.mkdir(parents=True)
    for folder in (path, Path.cwd()):
        (folder / "weights.bin").write_bytes(bytes(4 * WIDTH))
    return weights


def listed(*features: dict[str, str]) -> bytes:
    return as_json({"features": list(features)})


def changed_byte(path: Path, text: str) -> None:
    write_bundle(path, text)
    content = (path / "model.onnx").read_bytes()
    (path / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def no_manifest(path: Path, text: str) -> None:
    write_bundle(path, text)
    (path / MANIFEST).write_bytes(b"[]")


def two_of_many(path: Path, text: str) -> None:
    some = [feature._asdict() for feature in FEATURES[:2]]
    write_bundle(path, text, features_json=as_json({"features": some}))


def silly(path: Path, text: str) -> None:
    policy = {"version": "1", "threshold": 0.2, "clear_below": 0.3}
    write_bundle(path, text, policy_json=as_json(policy))


SPOILT: dict[str, tuple[Unfit, Spoil]] = {
    "a changed byte": (Unfit.DIGEST, changed_byte),
    "no manifest": (Unfit.MANIFEST, no_manifest),
    "a truncated graph": (
        Unfit.GRAPH,
        lambda path, text: write_bundle(path, text, model_onnx=graph(text, LINE)[:5000]),
    ),
    "data outside the bundle": (
        Unfit.OUTSIDE_DATA,
        lambda path, text: write_bundle(path, text, model_onnx=weighing(elsewhere(path))),
    ),
    "an output that is NaN": (
        Unfit.OUTPUT,
        lambda path, text: write_bundle(path, text, model_onnx=weighing(nothing_but_zeros())),
    ),
    "a feature that nobody computes": (
        Unfit.FEATURES,
        lambda path, text: write_bundle(
            path, text, features_json=listed({"name": "ICULOS", "unit": "h"})
        ),
    ),
    "other features than the graph takes": (Unfit.INTERFACE, two_of_many),
    "another booster": (
        Unfit.BOOSTER,
        lambda path, text: write_bundle(
            path, text, model_onnx=graph(text, LINE), model_txt=b"tree\n"
        ),
    ),
    "a policy that contradicts itself": (Unfit.POLICY, silly),
    "nothing at all": (Unfit.MISSING, lambda path, _: path.mkdir(parents=True)),
}


@pytest.fixture(params=SPOILT, ids=lambda name: name)
def spoilt(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> tuple[Unfit, Path]:
    monkeypatch.chdir(tmp_path)
    unfit, spoil = SPOILT[request.param]
    path = tmp_path / "models" / "noise" / "0.1.0"
    spoil(path, text)
    return unfit, path


def test_the_command_refuses_it_before_anything_is_written(spoilt: tuple[Unfit, Path]) -> None:
    _, path = spoilt
    environ = {"VIGIL_MODELS": str(path.parents[1]), "VIGIL_HOME": str(path.parents[2])}
    # Nothing answers there: that it would be refused for is later than what is wrong here.
    environ |= {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    asked = ["--requested-by", "a", "--approved-by", "b", "--reason", "c", "--yes"]
    for words in (["check", "noise/0.1.0"], ["deploy", str(path), "--role", "shadow", *asked]):
        done = CliRunner().invoke(app, ["models", *words], env=environ)
        assert done.exit_code == 5, done.output
        assert "VGL-5403" in done.output


def test_the_service_refuses_it_says_why_and_goes_on(spoilt: tuple[Unfit, Path]) -> None:
    unfit, path = spoilt
    manifest = path / MANIFEST
    digest = digest_of(manifest.read_bytes()) if manifest.exists() else "0" * 64
    seat = Seat(name="noise", version="0.1.0", digest=digest)
    open_ = opener(path.parents[1], role=Role.SHOWN, topic_id="0")
    with pytest.raises(BundleRefused) as refused:
        open_(seat)
    assert refused.value.unfit is unfit
    metrics = Metrics(Build(service="scoring", version="1", revision="a", python="3"))
    fleet = Fleet(engine(), open_, CODEC, metrics)
    fleet.take(deployed(LineUp(champion=seat)))
    fleet.settle()
    assert fleet.present.crew.champion == engine_of(fleet)
    assert f'outcome="refused",reason="{unfit}"' in metrics.exposition().decode()


def engine_of(fleet: Fleet) -> Any:
    """Give what the fleet was started with."""
    return fleet.crew_of(LineUp()).champion


def deployed(line_up: LineUp) -> Record:
    change = deployment(History().propose(line_up))
    return Record("changes.v1", 0, 0, 0, None, CODEC.encode(change))


def test_a_sound_bundle_of_other_features_is_opened(tmp_path: Path, text: str) -> None:
    path = write_bundle(tmp_path / "noise" / "0.1.0", text)
    digest = digest_of((path / MANIFEST).read_bytes())
    shutil.move(path, path.parent / "renamed")  # the folder's name is no part of it
    found = opener(tmp_path, role=Role.SHOWN, topic_id="0")(
        Seat(name="noise", version="0.1.0", digest=digest)
    )
    assert (found.model.digest, found.model.version) == (digest, "0.1.0")
    assert json.loads((path.parent / "renamed" / MANIFEST).read_bytes())["version"] == "0.1.0"
