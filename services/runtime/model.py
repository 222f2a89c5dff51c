"""The door to the model: ONNX Runtime for scores, the trees for what a score is made of."""

from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray

from services.core.errors import Stop
from services.core.shapley import Shapley
from services.core.trees import Trees, margin, read_trees
from services.runtime.bundle import Bundle, BundleRefused, Unfit

if TYPE_CHECKING:
    import lightgbm

REHEARSED: Final = 512
"""Rows, as many as the largest batch has."""
EXACT: Final = 1e-6
OUTSIDE: Final = "/nowhere"


class Contribution(NamedTuple):
    """What one feature added to the raw margin (log-odds before calibration) of one row."""

    name: str
    value: float
    contribution: float


class OnnxModel:
    """The scorer of one bundle; one thread, no spinning, the same bits in a batch of any size.

    Raises:
        BundleRefused: ONNX Runtime cannot load the graph, or it has other inputs than the bundle
            says.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._session = _session(bundle)
        self._width = len(bundle.features)

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated probability of each row, (N,) float32 in 0 to 1; blocks while it computes.

        Args:
            features: (N, F) float32 in the bundle's order; NaN where unknown.

        Raises:
            Stop: the input is not of this shape, or the output is not a probability.
        """
        if features.dtype != np.float32 or features.shape[1:] != (self._width,):
            raise Stop(f"the model takes rows of {self._width} float32 features")
        scores: NDArray[np.float32] = self._session.run(["score"], {"features": features})[0]
        # Written so that NaN fails it as well.
        if scores.shape != features.shape[:1] or not np.all((scores >= 0) & (scores <= 1)):
            raise Stop("the model gave something that is not one probability a row")
        return scores

    def contributions(
        self, features: NDArray[np.float32], most: int | None = None
    ) -> list[Contribution]:
        """What each feature added to the raw margin of one row, largest first.

        All of them and `base_margin` add up to `margin` within 1e-6 (TreeSHAP, see
        `core.shapley`). Takes a quarter of a millisecond: for alerts only.

        Args:
            features: (F,) float32 in the bundle's order.
            most: so many of them; None all.
        """
        added = self._added(features)
        order = np.argsort(-np.abs(added), kind="stable")[:most]
        names = self._bundle.features
        return [Contribution(names[i], float(features[i]), float(added[i])) for i in order]

    def rehearse(self, *, thoroughly: bool = False) -> None:
        """Score and explain rows that are made up, before anybody is scored.

        What a first call has to load or to allocate passes here, and not between two patients.

        Args:
            thoroughly: let LightGBM say as well what the margin is; it takes a second to import,
                for which a ward that waits for a restart has no use.

        Raises:
            BundleRefused: a score is no probability (OUTPUT), or the contributions of the booster
                do not add up to its margin (BOOSTER).
        """
        rng = np.random.default_rng(0)
        rows = rng.uniform(0, 150, (REHEARSED, self._width)).astype(np.float32)
        # From a row of which everything is known to one of which nothing is.
        rows[rng.random(rows.shape) < np.linspace(0, 1, REHEARSED)[:, None]] = np.nan
        try:
            self.score(rows)
        except Stop as error:
            raise _unusable(self._bundle, f"is refused: {error}", Unfit.OUTPUT) from error
        if not self._adds_up(rows[REHEARSED // 2], thoroughly=thoroughly):
            raise _unusable(self._bundle, "has no booster that explains it", Unfit.BOOSTER)

    def _adds_up(self, row: NDArray[np.float32], *, thoroughly: bool) -> bool:
        try:
            total = self.base_margin + self._added(row).sum()
            margins = [margin(self._trees, row)]
        except ValueError:
            return False
        # What we can read, LightGBM can.
        margins += [self.margin(row)] if thoroughly else []
        return all(abs(total - each) < EXACT for each in margins)

    def margin(self, features: NDArray[np.float32]) -> float:
        """Raw margin of one row (F,), the log-odds before calibration, as LightGBM has it."""
        rows = features.astype(np.float64)[None]
        return float(np.asarray(self._booster.predict(rows, num_threads=1))[0])

    @property
    def base_margin(self) -> float:
        """Raw margin that every row starts from."""
        return self._trees.base

    def _added(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        added: NDArray[np.float64] = self._shapley.added(features[None])[0]
        return added

    @cached_property
    def _trees(self) -> Trees:
        return read_trees(self._bundle.booster)

    @cached_property
    def _shapley(self) -> Shapley:
        return Shapley(self._trees)

    @cached_property
    def _booster(self) -> "lightgbm.Booster":
        # LightGBM takes a second to import, and only a thorough rehearsal needs it.
        import lightgbm  # noqa: PLC0415 - see above

        return lightgbm.Booster(model_str=self._bundle.booster)


def _session(bundle: Bundle) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    # No digest covers what lies outside the bundle; else it is looked for where the process runs.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", OUTSIDE
    )
    try:
        session = onnxruntime.InferenceSession(
            bundle.onnx, options, providers=["CPUExecutionProvider"]
        )
    # Its exceptions have no common base below Exception.
    except Exception as error:
        unfit = Unfit.OUTSIDE_DATA if "xternal" in str(error) else Unfit.GRAPH
        raise _unusable(bundle, "is not a graph that ONNX Runtime can load", unfit) from error
    inputs = [(each.name, each.shape[1:], each.type) for each in session.get_inputs()]
    if inputs != [("features", [len(bundle.features)], "tensor(float)")]:
        raise _unusable(
            bundle, "does not take the features that the bundle lists", Unfit.INTERFACE
        )
    if "score" not in [each.name for each in session.get_outputs()]:
        raise _unusable(bundle, "gives no score", Unfit.INTERFACE)
    return session


def _unusable(bundle: Bundle, why: str, unfit: Unfit) -> BundleRefused:
    return BundleRefused(f"{bundle.name} {bundle.version}", f"has a model.onnx that {why}", unfit)
