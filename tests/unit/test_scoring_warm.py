"""Whatever is compiled for a partition's events was compiled before the first of them came."""

import importlib
import pkgutil
from types import ModuleType

import numpy as np
from bundles import trained
from numba.core.registry import CPUDispatcher
from wards import CODEC, Run, log, ward_log

from services import core, scoring
from services.core.features import FEATURES
from services.core.shapley import Shapley
from services.core.trees import read_trees
from services.scoring.warm import warm

MODULES: list[ModuleType] = [
    importlib.import_module(found.name)
    for room in (core, scoring)
    for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")
    if not found.name.endswith("__main__")
]


def compiled() -> dict[str, int]:
    return {
        name: len(loop.signatures)
        for module in MODULES
        for name, loop in vars(module).items()
        if isinstance(loop, CPUDispatcher) and loop.signatures
    }


def test_after_warming_nothing_is_left_to_compile() -> None:
    warm(CODEC)
    before = compiled()
    assert {
        "follow",
        "measure",
        "lay_open",
        "write_features",
        "take_rows",
        "put_back",
        "release",
        "thread",
        "_read",
        "_add",
    } <= before.keys()
    Run().hand(log(ward_log(1)))
    Shapley(read_trees(trained())).added(np.zeros((1, len(FEATURES)), np.float32))
    assert compiled() == before
