"""`make chaos`: the long fault matrix on a real broker; its result is one JSON file."""

import argparse
import platform
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from chaos import cases, store
from chaos.bugs import BUGS
from chaos.feed import vitals
from chaos.ground import Ground, Instance
from chaos.model import SAMPLE, on_the_edge, scores
from chaos.siege import RATE, Siege, task_maker

from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.codec import Codec
from services.scoring.settings import ScoringSettings

PACKAGES = ("confluent-kafka", "fastavro", "lightgbm", "msgspec", "numpy", "onnxruntime")
BEDS = 120

CASES: dict[str, cases.Case] = {
    "killed-at-random": partial(cases.killed_at_random, kills=20),
    "killed-at-points": cases.killed_at,
    "frozen": cases.frozen,
    "joined-and-left": partial(cases.joined_and_left, every_s=15.0, rounds=4),
    "behind-an-open-transaction": cases.behind_an_open_transaction,
    "without-a-broker": cases.without_a_broker,
}
FOUND_BY: dict[str, cases.Case] = {
    "commit-before-produce": partial(cases.killed_at, points=("after-produce",)),
    "commit-offsets-outside": partial(cases.killed_at, points=("after-commit",)),
    "changelog-outside": partial(cases.killed_at, points=("before-commit",)),
    "revoke-by-abort": partial(cases.joined_and_left, every_s=2.0, rounds=1),
    "restore-to-stable-offset": cases.behind_an_open_transaction,
    "above-for-at-least": cases.left_alone,
}
"""Each planted bug, and what brings it to light."""
assert FOUND_BY.keys() == BUGS.keys()
ALL = [*CASES, store.NAME, *FOUND_BY]


def run(name: str, case: cases.Case, siege: Siege, *, bug: str = "") -> dict[str, Any]:
    """Do one case, and say whether what came out is what must come out."""
    fed, seconds = siege.feed.sent, siege.feed.seconds
    with Instance(siege.ground, bug=bug) as service:
        with siege.feed:
            facts = case(siege, service)
        verdict = siege.verdict()
    fed, seconds = siege.feed.sent - fed, siege.feed.seconds - seconds
    return told(
        {
            "case": name,
            "did": " ".join((getattr(case, "func", case).__doc__ or "").split()),
            "expected": "differs" if bug else "equal",
            "result": "equal" if verdict.equal else "differs",
            "events_per_s": round(fed / seconds),
            "facts": facts,
            "account": msgspec.to_builtins(verdict),
        }
    )


def told(found: dict[str, Any]) -> dict[str, Any]:
    """Say how a case ended."""
    good = "as it must be" if found["result"] == found["expected"] else "NOT as it must be"
    sys.stderr.write(f"{found['case']}: {found['result']}, {good}\n")
    return found


def grounded(broker: Broker, folder: Path, *, seed: int) -> Ground:
    """Make a ground whose model has a threshold on which scores lie."""
    source = ScoringSettings().model
    ground = Ground(broker, folder, source)
    sample = list(islice(vitals(seed, beds=BEDS), SAMPLE))
    found = scores(task_maker(ground.options, source), Codec(REPO / "schemas"), sample)
    ground.use(on_the_edge(source, folder / "models", found))
    return ground


def besieged(ground: Ground, *, seed: int) -> Siege:
    """Begin a log with the ward of a seed."""
    return Siege(ground, vitals(seed, beds=BEDS), seed=seed)


def matrix(given: argparse.Namespace, broker: Broker, folder: Path) -> list[dict[str, Any]]:
    """Everything: first what must be equal, on one log that goes on; then what must differ."""
    ground = grounded(broker, folder, seed=given.seed)
    wanted = given.only or ALL
    siege = besieged(ground, seed=given.seed)
    found = [run(name, case, siege) for name, case in CASES.items() if name in wanted]
    siege.log.close()
    if store.NAME in wanted:
        found.append(told(store.without_a_store(here().cache, seed=given.seed)))
    for bug, case in FOUND_BY.items():
        if bug in wanted:
            ground.clear()
            siege = besieged(ground, seed=given.seed)
            found.append(run(bug, case, siege, bug=bug))
            siege.log.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", nargs="*", choices=ALL)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port(), cache=here().cache).start()
        try:
            found = matrix(given, broker, Path(folder))
        finally:
            broker.stop()
    report = {
        "schema": "vigil.chaos/1",
        "seed": given.seed,
        "rate_per_s": RATE,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "cases": found,
        "ok": all(each["result"] == each["expected"] for each in found),
    }
    text = msgspec.json.format(msgspec.json.encode(report, order="deterministic")).decode() + "\n"
    sys.stdout.write(text)
    if given.json:
        given.json.write_text(text)
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
