"""The trees and their calibration as one ONNX graph, from features to probability."""

from typing import Final

import lightgbm
import onnx
from onnx import TensorProto, helper
from onnxmltools import convert_lightgbm  # type: ignore[import-untyped]  # it ships no types
from onnxmltools.convert.common.data_types import (  # type: ignore[import-untyped]  # no types
    FloatTensorType,
)

from services.core.stats.calibration import Line

OPSET: Final = 15


def graph(text: str, line: Line) -> bytes:
    """Build `features` (N, F) float32 → `score` (N,) float32, and the raw `margin` (N,) beside.

    Args:
        text: the canonical model, whose prediction is the raw margin.
        line: intercept and slope of the calibration (Platt) over the raw margin.
    """
    trees, width = _trees(text)
    # The line and the sigmoid run in double, so that rounding to float32 hides how each machine
    # computes exp: the score's bits stay the same.
    nodes = [
        trees,
        helper.make_node("Reshape", [trees.output[0], "flat"], ["margin"]),
        helper.make_node("Cast", ["margin"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["wide", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "intercept"], ["calibrated"]),
        helper.make_node("Sigmoid", ["calibrated"], ["probability"]),
        helper.make_node("Cast", ["probability"], ["score"], to=TensorProto.FLOAT),
    ]
    constants = [
        helper.make_tensor("flat", TensorProto.INT64, [1], [-1]),
        helper.make_tensor("slope", TensorProto.DOUBLE, [], [line.slope]),
        helper.make_tensor("intercept", TensorProto.DOUBLE, [], [line.intercept]),
    ]
    body = helper.make_graph(
        nodes,
        "vigil",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])
            for name in ("score", "margin")
        ],
        constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(body, opset_imports=opsets, producer_name="vigil", ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _trees(text: str) -> tuple[onnx.NodeProto, int]:
    booster = lightgbm.Booster(model_str=text)
    width = booster.num_feature()
    inputs = [("features", FloatTensorType([None, width]))]
    converted = convert_lightgbm(booster, initial_types=inputs, target_opset=OPSET)
    (node,) = (each for each in converted.graph.node if each.op_type == "TreeEnsembleRegressor")
    node.name = "trees"
    # Training statistics that no runtime reads, a sixth of the file.
    kept = [each for each in node.attribute if each.name != "nodes_hitrates"]
    del node.attribute[:]
    node.attribute.extend(kept)
    return node, width
