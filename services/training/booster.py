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

_END: Final = "\n\n\nend of trees"
_NAN, _ZERO, _DEFAULT_LEFT = 8, 4, 2  # bits of LightGBM's decision_type


class Recipe(NamedTuple):
    """How far learning goes.

    Attributes:
        trees: how many.
        others: which of PARAMETERS are others.
        forests: so many times as many trees, by seeds of their own; margins are their mean.
    """

    trees: int
    others: Mapping[str, float] = MappingProxyType({})
    forests: int = 1

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


def lessons(worth: NDArray[np.float64]) -> Lessons:
    """Turn the utilities of silence and alert, (R, 2), into a weighted yes or no."""
    gain = worth[:, 1] - worth[:, 0]
    return Lessons(gain > 0, np.abs(gain))


def fit(features: NDArray[np.float32], learn: Lessons, *, names: list[str], recipe: Recipe) -> str:
    """Train on (n, F) features and give the canonical model text."""
    parameters = recipe.parameters
    data = lightgbm.Dataset(
        features,
        learn.target.astype(np.float32),
        weight=learn.weight,
        feature_name=names,
        params=parameters,
    )
    forests = [
        lightgbm.train(parameters | {"seed": parameters["seed"] + number}, data, recipe.trees)
        for number in range(recipe.forests)
    ]
    return canonical(*(forest.model_to_string() for forest in forests))


def margins(text: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Raw margins (log-odds before calibration) of (n, F) features."""
    booster = lightgbm.Booster(model_str=text)
    return np.asarray(booster.predict(features, num_threads=PARAMETERS["num_threads"]))


def canonical(*texts: str) -> str:
    """Rewrite binary models as one so that every runtime decides alike on float32 input.

    Its prediction is the mean of their raw margins. Thresholds go down, and leaf values to the
    nearest, to what float32 holds: no decision on float32 input changes. At a node whose feature
    was never missing in training, a missing value goes where most rows went; LightGBM would read
    it as 0. The observed range of each feature, which single patients set, is left out.
    """
    (header, *_), *_ = forests = [text.split("\n\nTree=") for text in texts]
    lines = [_header(line) for line in header.splitlines() if not line.startswith("tree_sizes=")]
    trees = [_tree(tree, len(texts)) for _, *forest in forests for tree in forest]
    numbered = [f"{number}\n{tree}" for number, tree in enumerate(trees)]
    whole = "\n\nTree=".join(["\n".join(lines), *numbered]) + _END
    canon = lightgbm.Booster(model_str=whole).model_to_string()
    return canon.replace("\r\n", "\n")


def _header(line: str) -> str:
    key, _, value = line.partition("=")
    if key == "objective":
        return "objective=regression"
    if key == "feature_infos":
        return "feature_infos=" + " ".join("none" for _ in value.split())
    return line


def _tree(tree: str, forests: int) -> str:
    """Rewrite one tree's text, without its number; a tree of one leaf has no thresholds."""
    body, _, _ = tree.partition(_END)
    fields = dict(line.split("=", 1) for line in body.splitlines()[1:] if "=" in line)
    leaf = np.array(fields["leaf_value"].split(), np.float64) / forests
    fields["leaf_value"] = _join(leaf.astype(np.float32).astype(float))
    if "threshold" in fields:
        threshold = _floor32(np.array(fields["threshold"].split(), np.float64))
        fields["threshold"] = _join(threshold)
        fields["decision_type"] = _join(_decisions(fields))
    return "\n".join(f"{key}={value}" for key, value in fields.items())


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
