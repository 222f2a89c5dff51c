"""The trees: LightGBM, trained towards the utility, seeded, in a form that serves exactly."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import lightgbm
import numpy as np
from numpy.typing import NDArray

SEED: Final = 20190801

PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "bin_construct_sample_cnt": 50_000,  # enough for 63 bins, and a third of the time
    "feature_fraction": 0.3,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "num_threads": 1,  # two models are trained side by side instead: no waiting for each other
    "deterministic": True,
    "force_row_wise": True,
    "seed": SEED,
    "verbose": -1,
}

_NAN, _ZERO, _DEFAULT_LEFT = 8, 4, 2  # bits of LightGBM's decision_type


class Recipe(NamedTuple):
    """How far learning goes: the number of trees, and which of PARAMETERS are others."""

    trees: int
    others: Mapping[str, float] = MappingProxyType({})

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters, by their names in LightGBM."""
        return {**PARAMETERS, **self.others}


class Lessons(NamedTuple):
    """What the trees are to learn in each of R hours.

    Attributes:
        target: (R,) whether an alert is worth more than silence.
        weight: (R,) how much more or less; 0 where it makes no difference.
    """

    target: NDArray[np.bool_]
    weight: NDArray[np.float64]


def lessons(worth: NDArray[np.float64], early: NDArray[np.bool_]) -> Lessons:
    """Turn the utilities of silence and alert, (R, 2), into a weighted yes or no.

    In `early` hours, (R,), what an alert would lose is taught as if it were won.
    """
    gain = worth[:, 1] - worth[:, 0]
    return Lessons((gain > 0) | (early & (gain < 0)), np.abs(gain))


def fit(
    features: NDArray[np.float32],
    learn: Lessons,
    *,
    names: list[str],
    recipe: Recipe,
    signs: list[int] | None = None,
) -> str:
    """Train on (n, F) features and give the canonical model text.

    Args:
        features: what the trees see.
        learn: what they are to learn from it.
        names: F names of the features.
        recipe: how far they learn.
        signs: F times 1 where more may not lower the margin, -1 where it may not raise it, or 0.
    """
    parameters = recipe.parameters | ({"monotone_constraints": signs} if signs else {})
    data = lightgbm.Dataset(
        features,
        learn.target.astype(np.float32),
        weight=learn.weight,
        feature_name=names,
        params=parameters,
    )
    return canonical(lightgbm.train(parameters, data, recipe.trees).model_to_string())


def margins(text: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Raw margins (log-odds before calibration) of (n, F) features."""
    booster = lightgbm.Booster(model_str=text)
    return np.asarray(booster.predict(features, num_threads=PARAMETERS["num_threads"]))


def canonical(text: str) -> str:
    """Rewrite a binary model so that every runtime decides alike on float32 input.

    Its prediction is the raw margin. Thresholds go down, and leaf values to the nearest, to what
    float32 holds: no decision on float32 input changes. At a node whose feature was never
    missing in training, a missing value goes where most rows went; LightGBM would read it as 0.
    The observed range of each feature, which single patients set, is left out.
    """
    header, *trees = text.split("\n\nTree=")
    lines = [_header(line) for line in header.splitlines() if not line.startswith("tree_sizes=")]
    whole = "\n\nTree=".join(["\n".join(lines), *(_tree(tree) for tree in trees)])
    canon = lightgbm.Booster(model_str=whole).model_to_string()
    return canon.replace("\r\n", "\n")


def _header(line: str) -> str:
    key, _, value = line.partition("=")
    if key == "objective":
        return "objective=regression"
    if key == "feature_infos":
        return "feature_infos=" + " ".join("none" for _ in value.split())
    return line


def _tree(tree: str) -> str:
    """Rewrite one tree's text; a tree of one leaf has no thresholds."""
    body, end, rest = tree.partition("\n\n\nend of trees")
    lines = body.splitlines()
    fields = dict(line.split("=", 1) for line in lines[1:] if "=" in line)
    fields["leaf_value"] = _join(np.array(fields["leaf_value"].split(), np.float32).astype(float))
    if "threshold" in fields:
        threshold = _floor32(np.array(fields["threshold"].split(), np.float64))
        fields["threshold"] = _join(threshold)
        fields["decision_type"] = _join(_decisions(fields))
    return "\n".join([lines[0], *(f"{key}={value}" for key, value in fields.items())]) + end + rest


def _join(numbers: NDArray[Any]) -> str:
    return " ".join(repr(number) for number in numbers.tolist())


def _floor32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The greatest float32 that is not above each value."""
    near = values.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    return np.where(near > values, below, near).astype(np.float64)


def _decisions(fields: dict[str, str]) -> NDArray[np.int64]:
    decision = np.array(fields["decision_type"].split(), np.int64)
    if np.any(decision & _ZERO):
        raise ValueError("zero must not mean missing in the trees")
    inner = np.array(fields["internal_count"].split(), np.int64)
    leaf = np.array(fields["leaf_count"].split(), np.int64)
    left, right = (_count(fields[side], inner, leaf) for side in ("left_child", "right_child"))
    majority = np.where(left >= right, _NAN | _DEFAULT_LEFT, _NAN)
    return np.where(decision & _NAN, decision, majority)


def _count(children: str, inner: NDArray[np.int64], leaf: NDArray[np.int64]) -> NDArray[np.int64]:
    child = np.array(children.split(), np.int64)
    # A leaf's number is stored as its complement; np.where evaluates both sides, hence the clip.
    return np.where(child >= 0, inner[np.maximum(child, 0)], leaf[np.maximum(~child, 0)])
