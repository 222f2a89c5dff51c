"""A small real bundle, trained on noise in a second, for tests that need some model."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.core.features import FEATURES
from services.core.stats.calibration import Line
from services.runtime.bundle import FILES
from services.training.booster import Lessons, Recipe, fit
from services.training.graph import graph
from services.training.pack import as_json, pack

LINE = Line(-1.5, 0.8)


def noise(rows: int, seed: int = 0) -> NDArray[np.float32]:
    """Feature rows with every fifth value missing, but never in the last three columns."""
    random = np.random.default_rng(seed)
    features = random.normal(50, 20, (rows, len(FEATURES))).astype(np.float32)
    missing = random.random(features.shape) < 0.2
    missing[:, -3:] = False
    features[missing] = np.nan
    return features


def trained(seed: int = 0) -> str:
    """The canonical text of a small model in which the last columns matter."""
    features = noise(4000, seed)
    target = np.nansum(features[:, -8:], axis=1) > 330
    lessons = Lessons(target, np.ones(len(target)))
    return fit(features, lessons, names=[feature.name for feature in FEATURES], recipe=Recipe(12))


def write_bundle(path: Path, model: str, **changed: bytes) -> Path:
    """Write a bundle of a model; `changed` replaces files, with `_` for the dot in the name."""
    contents = {
        "model.onnx": graph(model, LINE),
        "model.txt": model.encode(),
        "features.json": as_json({"features": [feature._asdict() for feature in FEATURES]}),
        "reference.json": as_json({}),
        "policy.json": as_json(
            {"version": "test", "threshold": 0.2, "clear_below": 0.15, "persistence": 1}
        ),
        "card.json": as_json({}),
    }
    named = {name: changed.get(name.replace(".", "_"), contents[name]) for name in FILES}
    made_of = {"data": {"sha256": "0" * 64}}
    pack(path, named, {"name": path.parent.name, "version": path.name, **made_of})
    return path
