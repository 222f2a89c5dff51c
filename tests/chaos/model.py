"""A bundle whose threshold is a score that occurs: where `>` and `>=` are not the same."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from services.core.events import PredictionBatch
from services.runtime.bundle import FILES, load
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record
from services.runtime.worker import MakeTask
from services.scoring.outputs import PREDICTIONS, VITALS
from services.training.pack import as_json, pack

ALERTING = 0.9
"""About so much of the scores lies below the threshold."""
CLEARING = 0.7


def scores(make: MakeTask, codec: Codec, events: list[Output]) -> list[float]:
    """What the model says of events, whatever the policy."""
    found: list[float] = []
    for p in sorted({event.partition or 0 for event in events}):
        values = [event.value for event in events if event.partition == p]
        records = [Record(VITALS, p, at, 0, None, value) for at, value in enumerate(values)]
        for output in make(p).handle(records):
            if output.topic == PREDICTIONS:
                batch = codec.decode(output.value or b"", PredictionBatch)
                found += np.frombuffer(batch.scores, "<f4").astype(float).tolist()
    return sorted(score for score in found if score == score)  # noqa: PLR0124 - NaN is no score


def common(found: list[float], share: float) -> float:
    """The score that occurs most often among those near a quantile."""
    at, reach = int(share * len(found)), max(1, len(found) // 40)
    near, counts = np.unique(found[at - reach : at + reach], return_counts=True)
    return float(near[counts.argmax()])


def on_the_edge(source: Path, folder: Path, found: list[float]) -> Path:
    """Copy a bundle to a folder, with thresholds that are scores of its own."""
    contents = {name: (source / name).read_bytes() for name in FILES}
    policy: dict[str, Any] = msgspec.json.decode(contents["policy.json"])
    policy |= {"threshold": common(found, ALERTING), "clear_below": common(found, CLEARING)}
    contents["policy.json"] = as_json(policy)
    bundle = load(source)
    path = folder / bundle.name / bundle.version
    pack(path, contents, {"name": bundle.name, "version": bundle.version})
    return path
