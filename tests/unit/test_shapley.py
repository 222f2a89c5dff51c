"""What features added to a margin: LightGBM's own, and those of the definition."""

from collections.abc import Callable
from itertools import combinations
from math import factorial
from typing import Any

import lightgbm
import numpy as np
import pytest
from bundles import noise, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core.shapley import Shapley
from services.core.trees import margin, read_trees

WIDTH = 6


def grown(
    seed: int, *, zero_as_missing: bool = False, use_missing: bool = True, leaves: int = 8
) -> str:
    """The text of trees over features of few values, zero and NaN among them."""
    random = np.random.default_rng(seed)
    rows = values(random, 400)
    target = np.nansum(rows * random.normal(size=WIDTH), axis=1) + random.normal(size=len(rows))
    parameters = {
        "objective": "regression",
        "num_leaves": leaves,
        "min_data_in_leaf": 3,
        "zero_as_missing": zero_as_missing,
        "use_missing": use_missing,
        "num_threads": 1,
        "verbose": -1,
    }
    data = lightgbm.Dataset(rows, target, params=parameters)
    text: str = lightgbm.train(parameters, data, 4).model_to_string()
    return text


def values(random: np.random.Generator, many: int) -> NDArray[np.float32]:
    rows = (random.integers(-3, 4, (many, WIDTH)) / 2).astype(np.float32)
    rows[random.random(rows.shape) < 0.15] = np.nan
    return rows


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1 << 30),
    zero_as_missing=st.booleans(),
    use_missing=st.booleans(),
    leaves=st.integers(2, 40),
)
def test_they_are_those_of_lightgbm(
    *, seed: int, zero_as_missing: bool, use_missing: bool, leaves: int
) -> None:
    text = grown(seed, zero_as_missing=zero_as_missing, use_missing=use_missing, leaves=leaves)
    rows = values(np.random.default_rng(seed + 1), 30)
    expected = np.asarray(
        lightgbm.Booster(model_str=text).predict(rows, pred_contrib=True, num_threads=1)
    )
    trees = read_trees(text)
    margins = lightgbm.Booster(model_str=text).predict(rows, raw_score=True, num_threads=1)
    np.testing.assert_allclose([margin(trees, row) for row in rows], margins, rtol=0, atol=1e-9)
    np.testing.assert_allclose(Shapley(trees).added(rows), expected[:, :-1], rtol=0, atol=1e-9)
    assert trees.base == pytest.approx(expected[0, -1], abs=1e-9)


def test_those_of_a_model_of_ours_are_lightgbm_s() -> None:
    text, rows = trained(), noise(50, seed=3)
    booster = lightgbm.Booster(model_str=text)
    expected = np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))
    np.testing.assert_allclose(
        Shapley(read_trees(text)).added(rows), expected[:, :-1], rtol=0, atol=1e-9
    )


def by_definition(game: Callable[[frozenset[int]], float]) -> list[float]:
    """Shapley values of a game of WIDTH players: a weighted mean over all coalitions."""
    weights = [
        factorial(many) * factorial(WIDTH - many - 1) / factorial(WIDTH) for many in range(WIDTH)
    ]
    found = []
    for player in range(WIDTH):
        others = [other for other in range(WIDTH) if other != player]
        found.append(
            sum(
                weights[many] * (game(frozenset(some) | {player}) - game(frozenset(some)))
                for many in range(WIDTH)
                for some in combinations(others, many)
            )
        )
    return found


def pays(node: dict[str, Any], row: NDArray[np.float32], known: frozenset[int]) -> float:
    """The mean of a node, where a feature nobody knows sends rows as those of training went."""
    if "leaf_value" in node:
        return float(node["leaf_value"])
    left, right = node["left_child"], node["right_child"]
    if node["split_feature"] not in known:
        counts = [side.get("internal_count", side.get("leaf_count")) for side in (left, right)]
        means = [pays(side, row, known) for side in (left, right)]
        return float(np.average(means, weights=counts))
    value = row[node["split_feature"]]
    if np.isnan(value) and node["missing_type"] == "NaN":
        goes_left = node["default_left"]
    else:
        goes_left = np.nan_to_num(value) <= node["threshold"]
    return pays(left if goes_left else right, row, known)


def test_they_are_the_shapley_values_of_the_game_by_definition() -> None:
    booster = lightgbm.Booster(model_str=grown(7))
    structures = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    trees = read_trees(booster.model_to_string())
    for row in values(np.random.default_rng(8), 5):

        def game(known: frozenset[int], row: NDArray[np.float32] = row) -> float:
            return sum(pays(tree, row, known) for tree in structures)

        found = Shapley(trees).added(row[None])[0]
        np.testing.assert_allclose(found, by_definition(game), rtol=0, atol=1e-9)


def test_a_row_has_the_same_bits_whatever_stands_beside_it() -> None:
    shapley, rows = Shapley(read_trees(grown(3, leaves=30))), values(np.random.default_rng(4), 60)
    whole = shapley.added(rows)
    assert np.concatenate([shapley.added(row[None]) for row in rows]).tobytes() == whole.tobytes()
    assert shapley.added(rows[::-1])[::-1].tobytes() == whole.tobytes()


def test_a_model_of_one_leaf_shares_nothing_out() -> None:
    constant = lightgbm.train(
        {"objective": "regression", "verbose": -1, "num_threads": 1},
        lightgbm.Dataset(np.zeros((50, WIDTH)), np.full(50, 2.5), params={"verbose": -1}),
        1,
    )
    trees = read_trees(constant.model_to_string())
    assert trees.base == pytest.approx(2.5)
    assert not Shapley(trees).added(values(np.random.default_rng(1), 3)).any()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("tree\nversion", "forest\nversion", "not trees"),
        ("\nfeature_names", "\naverage_output\nfeature_names", "added up"),
        ("num_leaves=", "leaves=", "no 'num_leaves'"),
        ("split_feature=", "split=", "no 'split_feature'"),
        ("decision_type=", "decision_type=1 ", "categories"),
        ("is_linear=0", "is_linear=1", "linear"),
        ("threshold=", "threshold=x ", "could not convert"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(old: str, new: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_trees(grown(1).replace(old, new))
