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

ALERTING = 0.96
"""About so much of the scores lies below the threshold."""
CLEARING = 0.9
SAMPLE = 2500
"""Events of the feed, from its beginning, among whose scores the threshold is chosen."""


def scores(make: MakeTask, codec: Codec, events: list[Output]) -> dict[bytes, list[float]]:
    """What the model says of each patient, whatever the policy."""
    found: dict[bytes, list[float]] = {}
    for p in sorted({event.partition or 0 for event in events}):
        values = [event.value for event in events if event.partition == p]
        records = [Record(VITALS, p, at, 0, None, value) for at, value in enumerate(values)]
        for output in make(p).handle(records):
            if output.topic == PREDICTIONS:
                batch = codec.decode(output.value or b"", PredictionBatch)
                people = np.frombuffer(batch.pseudonyms, "V16").tolist()
                for who, score in zip(people, np.frombuffer(batch.scores, "<f4"), strict=True):
                    if np.isfinite(score):
                        found.setdefault(who, []).append(float(score))
    return found


def edge(found: dict[bytes, list[float]]) -> tuple[float, float]:
    """A threshold that is the highest score of some patient, and where alerts clear.

    That patient has no alert before that score, and one at it: by `>=`, and not by `>`.
    """
    alerting, clearing = np.quantile(np.concatenate(list(found.values())), [ALERTING, CLEARING])
    highest = [max(of_one) for of_one in found.values()]
    return min(highest, key=lambda score: abs(score - alerting)), float(clearing)


def on_the_edge(source: Path, folder: Path, found: dict[bytes, list[float]]) -> Path:
    """Copy a bundle to a folder, with such a threshold."""
    contents = {name: (source / name).read_bytes() for name in FILES}
    policy: dict[str, Any] = msgspec.json.decode(contents["policy.json"])
    threshold, clear_below = edge(found)
    policy |= {"threshold": threshold, "clear_below": min(clear_below, threshold)}
    contents["policy.json"] = as_json(policy)
    bundle = load(source)
    path = folder / bundle.name / bundle.version
    pack(path, contents, {"name": bundle.name, "version": bundle.version})
    return path
