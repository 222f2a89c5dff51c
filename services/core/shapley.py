"""What each feature added to the margin of a row: Shapley values of trees, as compiled loops.

The game of TreeSHAP (Lundberg et al., Nat Mach Intell 2020;2:56-67, path-dependent): a leaf whose
way asks for features 1 to d pays its value times the product over them of o_j, 1 where the row
goes the leaf's way at every node that asks for j, if j is known; and of z_j, the fraction of the
rows of training that do, if j is not. The Shapley value of i is an integral over the chance t with
which another feature is known (Owen, Management Science 1972;18:64-79):

    value * (o_i - z_i) * integral from 0 to 1 of the product over j != i of z_j (1 - t) + o_j t dt

The integrand is a polynomial of degree d - 1, so Gauss-Legendre quadrature with d / 2 points or
more is exact. All ways through a tree share products from the root down and sums from the
leaves up, so a row costs (nodes x points), and not (leaves x features squared).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.compiled import compiled
from services.core.trees import (
    DEFAULT_LEFT,
    NAN_MISSING,
    ROOT,
    TINY,
    ZERO_MISSING,
    Nodes,
    Trees,
)

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


def quadrature(most: int) -> Floats:
    """Give Gauss-Legendre quadrature on 0 to 1 with up to so many points.

    Returns:
        (most + 1, 4, most): with n points t, [n, :, :n] holds t, 1 - t, 1 / (1 - t) and weights.

    >>> t, _, _, weights = quadrature(3)[3]
    >>> round(float(weights @ t**5), 12) == round(1 / 6, 12)
    True
    """
    found = np.zeros((most + 1, 4, most))
    for many in range(1, most + 1):
        points, weights = np.polynomial.legendre.leggauss(many)
        t = (points + 1) / 2
        found[many, :, :many] = t, 1 - t, 1 / (1 - t), weights / 2
    return found


class Shapley:
    """Shares the margins of one model out."""

    def __init__(self, trees: Trees) -> None:
        """Find the points that every tree needs."""
        self._nodes = trees.nodes
        # Exact for a polynomial of degree d - 1.
        self._many = (self._nodes.most + 1) // 2
        self._points = quadrature(int(max(self._many, default=1)))

    def added(self, rows: NDArray[np.float32]) -> Floats:
        """Give what each feature added to the margin of each row.

        With the model's base they add up to the margin. Each row is computed by itself, sums in
        a fixed order: its bits do not depend on the other rows.

        Args:
            rows: (N, F), NaN where unknown.

        Returns:
            (N, F).
        """
        added = np.zeros(rows.shape)
        _add(self._nodes, self._many, self._points, rows, added)
        return added


class _Work(NamedTuple):
    """What is known of the ways of one tree, for one row and P points.

    Attributes:
        goes: (W,) o: 1 where the row goes this way, and `earlier` ones of the feature too; else 0.
        product: (W, P) of the factors of all features on the way.
        over: (W, P) 1 / the factor of the feature that the node before the way asks for.
        paid: (W, P) what all leaves behind the way pay.
        added: (F, P) what the features have got so far; a loop over points adds no two of them.
    """

    goes: Floats
    product: Floats
    over: Floats
    paid: Floats
    added: Floats


@compiled
def _add(
    nodes: Nodes, needed: Whole, points: Floats, rows: NDArray[np.float32], added: Floats
) -> None:
    most, ways = points.shape[2], 1
    for tree in range(len(needed)):
        ways = max(ways, 1 + 2 * (nodes.starts[tree + 1] - nodes.starts[tree]))
    size = (ways, most)
    work = _Work(
        np.ones(ways),
        np.ones(size),
        np.ones(size),
        np.zeros(size),
        np.zeros((rows.shape[1], most)),
    )
    for row in range(len(rows)):
        for tree in range(len(needed)):
            rule = points[needed[tree], :, : needed[tree]]
            _down(nodes, tree, rule, rows[row], work)
            _up(nodes, tree, rule, work)
        for feature in range(rows.shape[1]):
            for q in range(most):
                added[row, feature] += work.added[feature, q]
                work.added[feature, q] = 0.0


@compiled
def _down(nodes: Nodes, tree: int, points: Floats, row: NDArray[np.float32], work: _Work) -> None:
    """Go from the root to the leaves: who goes which way, and the products of the factors."""
    t, rest, over_rest = points[0], points[1], points[2]
    way = 1
    for node in range(nodes.starts[tree], nodes.starts[tree + 1]):
        above, earlier = nodes.above[node], nodes.earlier[node]
        # Which way the row goes is anybody's guess: to count is faster than to branch.
        side = 1 - _goes_left(row[nodes.feature[node]], nodes.threshold[node], nodes.rule[node])
        taken, other = way + side, way + 1 - side
        share, others = nodes.shares[node, side], nodes.shares[node, 1 - side]
        goes = work.goes[earlier]
        work.goes[taken], work.goes[other] = goes, 0.0
        # Where nobody went in training and the row does not go, there is nothing to share.
        over_others = 1.0 / others if others > 0.0 else 0.0
        for q in range(points.shape[1]):
            product = work.product[above, q] * work.over[earlier, q]
            factor = share * rest[q] + goes * t[q]
            work.product[taken, q] = product * factor
            work.over[taken, q] = 1.0 / factor if factor > 0.0 else 0.0
            work.product[other, q] = product * others * rest[q]
            work.over[other, q] = over_others * over_rest[q]
        way += 2


@compiled
def _up(nodes: Nodes, tree: int, points: Floats, work: _Work) -> None:
    """Go from the leaves to the root: sum what they pay, and share it out."""
    weights = points[3]
    first = nodes.starts[tree]
    for node in range(nodes.starts[tree + 1] - 1, first - 1, -1):
        left = 1 + 2 * (node - first)
        right = left + 1
        feature, above, earlier = nodes.feature[node], nodes.above[node], nodes.earlier[node]
        more_left = work.goes[left] - nodes.shares[node, 0]
        more_right = work.goes[right] - nodes.shares[node, 1]
        value_left, value_right = nodes.values[node, 0], nodes.values[node, 1]
        # The leaves behind the node know more of the feature than the earlier way said.
        earlier_node, earlier_side = (earlier - 1) >> 1, (earlier - 1) & 1
        less = 0.0
        if earlier != ROOT:
            less = work.goes[earlier] - nodes.shares[first + earlier_node, earlier_side]
        for q in range(points.shape[1]):
            paid_left = work.paid[left, q] + value_left * weights[q] * work.product[left, q]
            paid_right = work.paid[right, q] + value_right * weights[q] * work.product[right, q]
            work.paid[left, q] = 0.0
            work.paid[right, q] = 0.0
            paid = paid_left + paid_right
            work.paid[above, q] += paid
            work.added[feature, q] += (
                more_left * paid_left * work.over[left, q]
                + more_right * paid_right * work.over[right, q]
                - less * paid * work.over[earlier, q]
            )
    work.paid[ROOT] = 0.0


@compiled
def _goes_left(value: np.float32, threshold: float, rule: int) -> int:
    """Give 1 where a value goes left."""
    x = np.float64(value)
    unknown = np.isnan(x)
    missing = (unknown & (rule & NAN_MISSING != 0)) | (
        (rule & ZERO_MISSING != 0) & (unknown | (abs(x) <= TINY))
    )
    left = (x <= threshold) | (unknown & (threshold >= 0.0))
    return np.int64(rule & DEFAULT_LEFT != 0) if missing else np.int64(left)  # type: ignore[return-value]  # the compiler knows but one integer
