"""The trees of a LightGBM model as arrays, for the loops of `shapley`."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

CATEGORICAL, DEFAULT_LEFT, ZERO_MISSING, NAN_MISSING = 1, 2, 4, 8
"""Bits of LightGBM's decision_type."""
TINY: Final = 1e-35
"""What LightGBM takes for zero."""
ROOT: Final = 0
"""Way to the first node of a tree: all rows of training went it, and every row goes it."""

Array = NDArray[Any]


class Nodes(NamedTuple):
    """N nodes of T trees; those of a tree stand together, each behind those that it hangs on.

    A node has two ways out, to the left and to the right; those of a tree's node number n are
    its ways 1 + 2n and 2 + 2n.

    Attributes:
        starts: (T + 1,) the first node of each tree.
        most: (T,) features, at most, that are asked for on the way to one leaf.
        feature: (N,) that is asked for.
        threshold: (N,) values up to it go left.
        rule: (N,) decision_type.
        above: (N,) the way to the node.
        earlier: (N,) the way out of the last node above that asked for the same feature; ROOT
            if there is none.
        shares: (N, 2) fraction of the rows of training at the node that go a way, times that of
            `earlier`.
        values: (N, 2) of the leaf at the end of a way; 0 where it leads to a node.
    """

    starts: Array
    most: Array
    feature: Array
    threshold: Array
    rule: Array
    above: Array
    earlier: Array
    shares: Array
    values: Array


class Trees(NamedTuple):
    """A model whose raw margin is the sum of its leaves.

    Attributes:
        nodes: of all trees.
        base: the mean margin of the rows of training.
        constant: the sum of the trees that ask for nothing.
    """

    nodes: Nodes
    base: float
    constant: float


class _Node(NamedTuple):
    feature: int
    threshold: float
    rule: int
    above: int
    earlier: int
    shares: tuple[float, float]
    values: tuple[float, float]


class _Tree(NamedTuple):
    """Columns of one tree, as LightGBM's text has them; children below 0 are leaves (~leaf)."""

    feature: list[int]
    threshold: list[float]
    rule: list[int]
    children: tuple[list[int], list[int]]
    counts: tuple[list[int], list[int]]  # of nodes, of leaves
    value: list[float]

    def reached(self, node: int) -> int:
        """Say how many rows of training reached a node or a leaf."""
        return self.counts[0][node] if node >= 0 else self.counts[1][~node]


def read_trees(text: str) -> Trees:
    """Read LightGBM's text.

    Raises:
        ValueError: it is none, or a tree has categories or linear leaves, or leaves are averaged.
    """
    header, *parts = text.split("\nTree=")
    if not header.startswith("tree\n") or "\naverage_output" in header or not parts:
        raise ValueError("not trees whose leaves are added up")
    base, constant, nodes, starts, most = 0.0, 0.0, list[_Node](), [0], list[int]()
    for part in parts:
        tree = _tree(part)
        counts = np.array(tree.counts[1], np.float64)
        base += float(np.sum(counts * tree.value) / counts.sum())
        if tree.feature:
            found, asked = _nodes(tree)
            nodes += found
            starts.append(len(nodes))
            most.append(asked)
        else:
            constant += tree.value[0]
    return Trees(_packed(nodes, starts, most), base, constant)


def margin(trees: Trees, row: NDArray[np.float32]) -> float:
    """Send a row (F,) down every tree and add up the leaves; takes milliseconds."""
    nodes, total = trees.nodes, trees.constant
    for first, end in pairwise(nodes.starts.tolist()):
        taken = {ROOT}
        for node in range(first, end):
            if nodes.above[node] in taken:
                value = row[nodes.feature[node]]
                side = 0 if _is_left(float(value), nodes.threshold[node], nodes.rule[node]) else 1
                taken.add(1 + 2 * (node - first) + side)
                total += float(nodes.values[node, side])
    return total


def _is_left(value: float, threshold: float, rule: int) -> bool:
    unknown = math.isnan(value)
    if rule & ZERO_MISSING and (unknown or abs(value) <= TINY):
        return bool(rule & DEFAULT_LEFT)
    if rule & NAN_MISSING and unknown:
        return bool(rule & DEFAULT_LEFT)
    # LightGBM takes what it was never told of for 0.
    return (0.0 if unknown else value) <= threshold


def _tree(text: str) -> _Tree:
    body = text.partition("\n\n")[0]
    fields = dict(line.split("=", 1) for line in body.splitlines()[1:] if "=" in line)
    try:
        many = int(fields["num_leaves"])
        if fields.get("is_linear", "0") != "0":
            raise ValueError("a tree has linear leaves")
        if many == 1:
            return _Tree([], [], [], ([], []), ([], [1]), _floats(fields, "leaf_value"))
        tree = _Tree(
            _ints(fields, "split_feature"),
            _floats(fields, "threshold"),
            _ints(fields, "decision_type"),
            (_ints(fields, "left_child"), _ints(fields, "right_child")),
            (_ints(fields, "internal_count"), _ints(fields, "leaf_count")),
            _floats(fields, "leaf_value"),
        )
    except KeyError as missing:
        raise ValueError(f"a tree has no {missing}") from None
    if any(rule & CATEGORICAL for rule in tree.rule):
        raise ValueError("a tree asks for categories")
    return tree


def _ints(fields: Mapping[str, str], name: str) -> list[int]:
    return [int(number) for number in fields[name].split()]


def _floats(fields: Mapping[str, str], name: str) -> list[float]:
    return [float(number) for number in fields[name].split()]


def _nodes(tree: _Tree) -> tuple[list[_Node], int]:
    """Give the nodes of a tree, and the most features on the way to one of its leaves."""
    nodes, most, shares = list[_Node](), 0, {ROOT: 1.0}
    waiting: list[tuple[int, int, dict[int, int]]] = [(0, ROOT, {})]
    while waiting:
        number, above, asked = waiting.pop()
        feature, children = tree.feature[number], [side[number] for side in tree.children]
        earlier, way = asked.get(feature, ROOT), 1 + 2 * len(nodes)
        here = max(tree.reached(number), 1)
        for side, child in enumerate(children):
            shares[way + side] = shares[earlier] * tree.reached(child) / here
            on_the_way = asked | {feature: way + side}
            most = max(most, len(on_the_way))
            if child >= 0:
                waiting.append((child, way + side, on_the_way))
        left, right = (tree.value[~child] if child < 0 else 0.0 for child in children)
        nodes.append(
            _Node(
                *(feature, tree.threshold[number], tree.rule[number], above, earlier),
                *((shares[way], shares[way + 1]), (left, right)),
            )
        )
    return nodes, most


def _packed(nodes: list[_Node], starts: list[int], most: list[int]) -> Nodes:
    return Nodes(
        starts=np.array(starts, np.int64),
        most=np.array(most, np.int64),
        feature=np.array([node.feature for node in nodes], np.int64),
        threshold=np.array([node.threshold for node in nodes], np.float64),
        rule=np.array([node.rule for node in nodes], np.uint8),
        above=np.array([node.above for node in nodes], np.int64),
        earlier=np.array([node.earlier for node in nodes], np.int64),
        shares=np.array([node.shares for node in nodes], np.float64).reshape(-1, 2),
        values=np.array([node.values for node in nodes], np.float64).reshape(-1, 2),
    )
