"""The models at work, ready to score, and which of them is shown for whom."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from services.core.events import Role
from services.core.lineup import LineUp, Part, Seat, in_canary
from services.core.policy import Policy
from services.core.support import Limits
from services.scoring.course import AS_STARTED, Course
from services.scoring.entries import Model

Floats = npt.NDArray[np.float32]


class Scores(Protocol):
    """A model, as `runtime.model.OnnxModel` is one."""

    def score(self, features: Floats) -> Floats:
        """Give the probability of each row; raises Stop when it is none."""

    def contributions(
        self, features: Floats, most: int | None = None
    ) -> Sequence[tuple[str, float, float]]:
        """Give name, value and contribution of the features of one row, the largest first."""


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
        support: the patients it can speak of; None: its bundle states no rule.
    """

    model: Model
    onnx: Scores
    select: Select
    policy: Policy
    support: Limits | None = None

    def under(self, policy: Policy | None) -> "Engine":
        """Hold the same model to another policy; None changes nothing."""
        if policy is None:
            return self
        model = msgspec.structs.replace(self.model, policy_version=policy.version)
        return self._replace(model=model, policy=policy)

    def unseen(self) -> "Engine":
        """Let the same model score without anybody being shown what it says."""
        return self._replace(model=msgspec.structs.replace(self.model, role=Role.SHADOW))


class Helm(Protocol):
    """Says which models score; asked once per batch, by the thread that scores."""

    def crew_for(self, course: Course, first: int) -> "Crew":
        """Give the models for a batch that begins at an offset, and note them in the course."""


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
        """Give the one model that a patient's clinicians see; of nobody it is the champion."""
        if self.canary is not None and pseudonym and in_canary(pseudonym, self.line_up.share):
            return self.canary
        return self.champion

    def parts(self) -> list[tuple[Part, Engine]]:
        """Give every model with its part."""
        canary = [] if self.canary is None else [(Part.CANARY, self.canary)]
        shadows = [(Part.SHADOW, engine) for engine in self.shadows]
        return [(Part.CHAMPION, self.champion), *canary, *shadows]


class Alone(NamedTuple):
    """A helm for one model that nothing ever changes, as in benchmarks."""

    engine: Engine

    def crew_for(self, course: Course, first: int) -> Crew:
        """Give the one there is."""
        model = self.engine.model
        seat = Seat(name=model.name, version=model.version, digest=model.digest)
        line_up = LineUp(champion=seat)
        course.turn(first, AS_STARTED, line_up)
        return Crew(line_up, self.engine)
