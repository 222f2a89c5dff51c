"""`make chaos`: the long fault matrix on a real broker; its result is one JSON file."""

import argparse
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
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
ALL = [*CASES, *FOUND_BY, store.NAME]
SCHEMA = "vigil.chaos/1"


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
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {found['case']}: {found['result']}, {good}\n")
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


def matrix(given: argparse.Namespace, broker: Broker, folder: Path) -> Iterator[dict[str, Any]]:
    """Everything: first what must be equal, on one log that goes on; then what must differ."""
    ground = grounded(broker, folder, seed=given.seed)
    wanted = given.only or ALL
    siege = besieged(ground, seed=given.seed)
    for name, case in CASES.items():
        if name in wanted:
            yield run(name, case, siege)
    siege.log.close()
    for bug, case in FOUND_BY.items():
        if bug in wanted:
            ground.clear()
            siege = besieged(ground, seed=given.seed)
            yield run(bug, case, siege, bug=bug)
            siege.log.close()
    if store.NAME in wanted:
        yield told(store.without_a_store(here().cache, seed=given.seed))


def report(seed: int, found: dict[str, dict[str, Any]]) -> bytes:
    """The whole result, in the order of the cases."""
    cases_ = [found[name] for name in ALL if name in found]
    whole = {
        "schema": SCHEMA,
        "seed": seed,
        "rate_per_s": RATE,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "ok": len(cases_) == len(ALL) and all(c["result"] == c["expected"] for c in cases_),
        "missing": [name for name in ALL if name not in found],
        "cases": cases_,
    }
    return msgspec.json.format(msgspec.json.encode(whole, order="deterministic")) + b"\n"


def earlier(path: Path, seed: int) -> dict[str, dict[str, Any]]:
    """The cases that a file holds, if they are of the same seed: some can be done anew."""
    if not path.exists():
        return {}
    before: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return {case["case"]: case for case in before["cases"]} if before["seed"] == seed else {}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--only", nargs="*", choices=ALL, help="the others stay as the file has them"
    )
    parser.add_argument("--json", type=Path, default=REPO / "docs" / "chaos.json")
    given = parser.parse_args()
    # As Ctrl-C does, so that broker and services are ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    found = earlier(given.json, given.seed) if given.only else {}
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port(), cache=here().cache)
        try:
            for case in matrix(given, broker.start(), Path(folder)):
                found[case["case"]] = case
                given.json.write_bytes(report(given.seed, found))
        finally:
            broker.stop()
    return 0 if all(case["result"] == case["expected"] for case in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
