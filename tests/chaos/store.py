"""The whole path while ClickHouse is away: scoring goes on, and the ledger loses nothing."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from chaos.log import Count
from lives import until
from whole_path import WholePath

from services.core.errors import ExitCode
from services.local.home import REPO
from services.runtime.codec import Codec
from services.simulator.delivery import Pace
from services.simulator.messages import START
from services.simulator.ward import Ward

NAME = "without-a-store"
BEDS = 340
SPEED = 3600
BEFORE = 1000
AWAY_S = 20.0
STORE = "clickhouse"


def without_a_store(cache: Path, *, seed: int) -> dict[str, Any]:
    """ClickHouse hangs under a ward that goes on, then dies, and comes back."""
    path = WholePath(cache)
    try:
        path.start()
        ward = Ward(np.random.default_rng(seed), START, beds=BEDS)
        path.feed(ward.messages(10_000), Pace(speed=SPEED))
        until(lambda: path.accepted() >= BEFORE)
        meanwhile = _away(path)
        path.enough.set()
        sent = path.fed()
        account = path.settle()
        written = path.exploded(
            (r.topic, r.partition, r.value or b"")
            for r in path.records(["predictions.v1", "alerts.v1"])
        )
        expected = path.scored_undisturbed()
        proved, _ = path.vigil("ledger", "verify")
    finally:
        path.stop()
    changed = sum(written.get(p) != expected.get(p) for p in written.keys() | expected.keys())
    found = {
        "unexplained": account["unexplained_total"],
        "partitions_changed": changed,
        "ledger_proved": proved == ExitCode.OK,
    }
    good = found == {"unexplained": 0, "partitions_changed": 0, "ledger_proved": True}
    return {
        "case": NAME,
        "did": (without_a_store.__doc__ or "").strip(),
        "expected": "equal",
        "result": "equal" if good and meanwhile else "differs",
        "events_per_s": round(sent.accepted / sent.elapsed_s),
        "facts": {"store_away_s": AWAY_S, "predicted_meanwhile": meanwhile},
        "account": found,
    }


def _away(path: WholePath) -> int:
    """Let the store hang for a while and die, and count what is predicted while it hangs.

    It is not stopped by its supervisor: its port would be anybody's meanwhile.
    """
    count, victim = Count(path.options, Codec(REPO / "schemas")), path.pid(STORE)
    os.kill(victim, signal.SIGSTOP)
    gone = time.monotonic()
    until(lambda: count.read() >= 0 and time.monotonic() > gone + 1)
    before = count.predictions
    until(lambda: count.read() >= 0 and time.monotonic() > gone + AWAY_S)
    path.kill(STORE)
    count.close()
    return count.predictions - before
