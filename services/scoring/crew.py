"""The models at work, ready to score, and which of them is shown for whom."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from services.core.lineup import LineUp, Part, in_canary
from services.core.policy import Policy
from services.scoring.entries import Model

Floats = npt.NDArray[np.float32]


class Scores(Protocol):
    """A model, as `runtime.model.OnnxModel` is one."""

    def score(self, features: Floats) -> Floats:
        """Give the probability of each row; raises Stop when it is none."""

    def contributions(self, features: Floats) -> Sequence[tuple[str, float, float]]:
        """Give name, value and contribution of the features of one row, largest first."""


class Select(Protocol):
    """Picks the inputs of a model."""

    def __call__(self, rows: Floats, /) -> Floats:
        """Give (N, F) of (N, all features)."""


class Engine(NamedTuple):
    """A model that is loaded.

    Attributes:
        model: what batches say of it.
        onnx: gives scores.
        select: picks its inputs from all features.
        policy: when a score of it becomes an alert.
    """

    model: Model
    onnx: Scores
    select: Select
    policy: Policy

    def under(self, policy: Policy | None) -> "Engine":
        """Hold the same model to another policy; None changes nothing."""
        if policy is None:
            return self
        model = msgspec.structs.replace(self.model, policy_version=policy.version)
        return self._replace(model=model, policy=policy)


class Crew(NamedTuple):
    """The models of a line-up.

    Attributes:
        line_up: with its champion named.
        champion: shown for everybody who is not of the canary's share.
        canary: shown for its share of the patients, if there is one.
        shadows: score, and nobody is shown what.
    """

    line_up: LineUp
    champion: Engine
    canary: Engine | None = None
    shadows: tuple[Engine, ...] = ()

    def shown_for(self, pseudonym: bytes) -> Engine:
        """Give the one model that a patient's clinicians see; of a tick it is the champion."""
        if self.canary is not None and in_canary(pseudonym, self.line_up.share):
            return self.canary
        return self.champion

    def parts(self) -> list[tuple[Part, Engine]]:
        """Give every model with its part."""
        canary = [] if self.canary is None else [(Part.CANARY, self.canary)]
        shadows = [(Part.SHADOW, engine) for engine in self.shadows]
        return [(Part.CHAMPION, self.champion), *canary, *shadows]
