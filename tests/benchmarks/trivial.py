"""The work of the bare loop and of the peers: an Observation in, forty trivial features, a score.

Stands alone: a peer runs in an environment in which Vigil is not installed.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types

LAST, LOWEST, HIGHEST, TOTAL, COUNT = range(5)


class Code(msgspec.Struct):
    code: str


class Concept(msgspec.Struct):
    coding: list[Code]


class Reference(msgspec.Struct):
    reference: str


class Quantity(msgspec.Struct):
    value: float


class Observation(msgspec.Struct):
    id: str
    code: Concept
    subject: Reference
    effectiveDateTime: str  # noqa: N815 - FHIR's name
    valueQuantity: Quantity  # noqa: N815 - the same


class Prediction(msgspec.Struct):
    id: str
    patient: str
    at: str
    score: float


class Features:
    """Last, lowest, highest, total and count of eight vital signs, of each patient."""

    def __init__(self, names: Sequence[str]) -> None:
        self._places = {name: 5 * place for place, name in enumerate(names)}
        self._patients: dict[str, np.ndarray] = {}

    def of(self, each: Observation) -> np.ndarray:
        known = self._patients.get(each.subject.reference)
        if known is None:
            known = self._patients[each.subject.reference] = self.none()
        return self.updated(known, each)

    def none(self) -> np.ndarray:
        """Give those of a patient of whom nothing was measured."""
        return np.zeros(5 * len(self._places), np.float32)

    def updated(self, known: np.ndarray, each: Observation) -> np.ndarray:
        """Let an observation change a patient's."""
        place, value = self._places[each.code.coding[0].code], each.valueQuantity.value
        known[place + LAST] = value
        known[place + LOWEST] = min(known[place + LOWEST], value)
        known[place + HIGHEST] = max(known[place + HIGHEST], value)
        known[place + TOTAL] += value
        known[place + COUNT] += 1
        return known


class OneByOne:
    """Bytes of an Observation to bytes of a Prediction, a message at a time as peers hand them."""

    def __init__(self, onnx: Path, names: Sequence[str], width: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            onnx, options, providers=["CPUExecutionProvider"]
        )
        self._decoder = msgspec.json.Decoder(Observation)
        self._features, self._row = Features(names), np.zeros((1, width), np.float32)

    def predict(self, value: bytes) -> bytes:
        each = self._decoder.decode(value)
        return self._told(each, self._features.of(each))

    def predict_from(self, value: bytes, kept: bytes | None) -> tuple[bytes, bytes]:
        """Predict with a patient's features as they are kept elsewhere; give these too."""
        each = self._decoder.decode(value)
        known = np.frombuffer(kept, np.float32).copy() if kept else self._features.none()
        told = self._told(each, self._features.updated(known, each))
        return told, known.tobytes()

    def _told(self, each: Observation, features: np.ndarray) -> bytes:
        self._row[0, : len(features)] = features
        (scores,) = self._session.run(["score"], {"features": self._row})
        told = Prediction(
            each.id, each.subject.reference, each.effectiveDateTime, float(scores[0])
        )
        return msgspec.json.encode(told)


class Stopwatch:
    """Wall and CPU time from the first message to the last; a peer's start counts for nothing."""

    def __init__(self, goal: int) -> None:
        self._goal, self.seen = goal, 0
        self._began = (0.0, 0.0)
        self._took = (0.0, 0.0)

    def passed(self) -> bool:
        """Count a message; True of the last."""
        now = (time.monotonic(), time.process_time())
        if self.seen == 0:
            self._began = now
        self.seen += 1
        self._took = (now[0] - self._began[0], now[1] - self._began[1])
        return self.seen >= self._goal

    def tell(self) -> None:
        """Print what was measured, for the bench."""
        wall_s, cpu_s = self._took
        many = self.seen - 1
        print(json.dumps({"events_per_s": many / wall_s, "cpu_us": cpu_s / many * 1e6}))
