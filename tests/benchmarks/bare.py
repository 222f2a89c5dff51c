"""The bare loop scoring is held against: decode, forty trivial features, ONNX, one record out.

It reads what a bedside sends, FHIR Observations of 1.2 kB as JSON, in the same worker and the same
kind of transaction; it keeps no history, no changelog and no policy.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from trivial import Code, Concept, Features, Observation, Prediction, Quantity, Reference

from services.core.events import Vitals
from services.core.vitals import VARIABLES, VITALS
from services.runtime.model import OnnxModel
from services.runtime.ports import Output, Record, Stateless
from services.scoring.outputs import PREDICTIONS

OBSERVATIONS = "bare.observations"
BYTES = 1200


def observations(events: Sequence[Vitals], partitions: int) -> list[Output]:
    """One Observation per event that measures a vital sign: its first value."""
    found = []
    for number, event in enumerate(events):
        if not event.variables or event.variables[0] >= len(VITALS):
            continue
        value = float(np.frombuffer(event.values, "<f8")[0])
        body = Observation(
            id=str(number),
            code=Concept(coding=[Code(code=VARIABLES[event.variables[0]])]),
            subject=Reference(reference=f"Patient/{event.pseudonym.hex()}"),
            effectiveDateTime=str(event.measured_at),
            valueQuantity=Quantity(value=value if np.isfinite(value) else 80.0),
        )
        text = msgspec.to_builtins(body) | {"resourceType": "Observation", "note": ""}
        text["note"] = "x" * max(BYTES - len(msgspec.json.encode(text)), 0)
        value_bytes = msgspec.json.encode(text)
        found.append(
            Output(OBSERVATIONS, event.pseudonym, value_bytes, event.pseudonym[0] % partitions)
        )
    return found


class Bare(Stateless):
    """A batch of records to a prediction each."""

    def __init__(self, partition: int, onnx: OnnxModel, width: int) -> None:
        self._partition, self._onnx, self._width = partition, onnx, width
        self._decoder = msgspec.json.Decoder(Observation)
        self._features = Features(VITALS)

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        for start in range(0, len(records), 512):
            some = [self._decoder.decode(r.value or b"") for r in records[start : start + 512]]
            rows = np.zeros((len(some), self._width), np.float32)
            for row, each in zip(rows, some, strict=True):
                row[: 5 * len(VITALS)] = self._features.of(each)
            for each, score in zip(some, self._onnx.score(rows).tolist(), strict=True):
                told = Prediction(each.id, each.subject.reference, each.effectiveDateTime, score)
                yield Output(PREDICTIONS, None, msgspec.json.encode(told), self._partition)
