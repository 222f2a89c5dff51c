"""`make bench NAME=stages`: CPU an event of each stage of scoring, in one thread, without Kafka.

What `scoring` prints is of the whole process; this says where it goes. Each stage is timed where
it is called: `handle` contains all but `changes`, `Showing.judge` the contributions, `Share.score`
ONNX. What a service does beside is done in its turn here.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import lightgbm
import numpy as np
from report import line, spread
from scoring import PARTITIONS, vitals
from typing_extensions import override

from services.core.events import Role
from services.local.home import REPO
from services.runtime import bundle
from services.runtime.codec import Codec
from services.runtime.model import OnnxModel
from services.runtime.ports import Output, Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring.__main__ import engine
from services.scoring.counting import counting
from services.scoring.crew import Alone, Engine
from services.scoring.outputs import VITALS
from services.scoring.patients.wire import Wire
from services.scoring.pipeline import Scorer, Scoring
from services.scoring.shares import Run, Share
from services.scoring.showing import Showing
from services.scoring.warm import warm

STAGES: Sequence[tuple[type, str]] = (
    (Wire, "events"),
    (Run, "follow"),
    (Run, "columns"),
    (Share, "score"),
    (OnnxModel, "score"),
    (Showing, "judge"),
    (OnnxModel, "contributions"),
    (Codec, "encode"),
)
SIZES = (500, 10, 1)
EXPLAINED = 200

Spent = dict[str, float]
T = TypeVar("T")


class Here(Executor):
    """Does at once, in this thread, what it is given."""

    @override
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done = Future[T]()
        done.set_result(fn(*args, **kwargs))
        return done


def timed(owner: type, name: str, spent: Spent) -> None:
    """Let a method add what it takes to its sum."""
    original: Callable[..., Any] = getattr(owner, name)

    @wraps(original)
    def timing(*args: Any, **kwargs: Any) -> Any:
        began = time.thread_time()
        try:
            return original(*args, **kwargs)
        finally:
            spent[f"{owner.__name__}.{name.strip('_')}"] += time.thread_time() - began

    setattr(owner, name, timing)


def logs(events: Sequence[Output]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {number: [] for number in range(PARTITIONS)}
    for event in events:
        log = found[event.partition or 0]
        log.append(Record(VITALS, event.partition or 0, len(log), 0, event.key, event.value))
    return found


def run(made: Engine, codec: Codec, events: Sequence[Output], size: int, spent: Spent) -> Spent:
    """µs an event of each stage, batches of a size."""
    metrics = Metrics(Build(service="scoring", version="0", revision="", python=""))
    scorer = Scorer(codec, Alone(made), counting(metrics, Role.SHOWN), beside=Here())
    spent.clear()
    for partition, log in logs(events).items():
        task = Scoring(partition, scorer)
        for start in range(0, len(log), size):
            began = time.thread_time()
            list(task.handle(log[start : start + size]))
            handled = time.thread_time()
            list(task.changes())
            spent["handle"] += handled - began
            spent["changes"] += time.thread_time() - handled
    return {name: seconds / len(events) * 1e6 for name, seconds in spent.items()}


def explaining(path: Path) -> tuple[float, float]:
    """µs a row for explaining it, ours and LightGBM's."""
    loaded = bundle.load(path)
    model, booster = OnnxModel(loaded), lightgbm.Booster(model_str=loaded.booster)
    random = np.random.default_rng(0)
    rows = random.uniform(0, 150, (EXPLAINED, len(loaded.features))).astype(np.float32)
    rows[random.random(rows.shape) < 0.5] = np.nan
    model.contributions(rows[0], 5)
    began = time.thread_time()
    for row in rows:
        model.contributions(row, 5)
    ours = time.thread_time()
    for row in rows:
        booster.predict(row.astype(np.float64)[None], pred_contrib=True, num_threads=1)
    lightgbms = time.thread_time()
    return (ours - began) / EXPLAINED * 1e6, (lightgbms - ours) / EXPLAINED * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--beds", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--model", type=Path, default=REPO / "models" / "sepsis" / "1.0.0")
    given = parser.parse_args()
    sys.stderr.write("simulating the ward\n")
    events, codec = vitals(given.beds, given.events), Codec(REPO / "schemas")
    warm(codec)
    made = engine(given.model, role=Role.SHOWN, topic_id="")
    explained, by_lightgbm = explaining(given.model)
    spent: Spent = defaultdict(float)
    for owner, name in STAGES:
        timed(owner, name, spent)
    run(made, codec, events, SIZES[0], spent)
    figures: dict[str, Any] = {
        "explanation_us": round(explained, 1),
        "explanation_by_lightgbm_us": round(by_lightgbm, 1),
    }
    for size in SIZES:
        runs = [run(made, codec, events, size, spent) for _ in range(given.repetitions)]
        for name in runs[0]:
            figures[f"{name}_us_at_{size}"] = spread([each[name] for each in runs])
    did = f"{len(events)} vitals events of {given.beds} beds, {PARTITIONS} partitions, one thread"
    ratios = {"lightgbm_to_ours": round(by_lightgbm / explained, 1)}
    print(line("stages", figures, ratios, did=did, repetitions=given.repetitions))


if __name__ == "__main__":
    main()
