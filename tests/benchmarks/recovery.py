"""`make bench NAME=recovery`: how soon scoring goes on after a kill -9.

Kills are of the real service, restarted at once, with so many patients of state and a live feed;
an outside reader of committed predictions sees the next one. The restore is the service's own, in
this process. What state costs is `make bench NAME=state`.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from catch_up import write
from chaos.crowd import crowd
from chaos.feed import Feed, vitals
from chaos.ground import PARTITIONS, Ground, Instance
from chaos.log import Log
from chaos.oracle import known_to
from chaos.siege import task_maker
from lives import until
from progress import counting, ending_by_signal, say
from report import line

from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.codec import Codec
from services.runtime.tables import restore
from services.scoring.outputs import CHANGELOG
from services.scoring.settings import ScoringSettings

BEDS = 100
LIVE_PER_S = 300.0
NEXT_S, RESTORED_PER_10_S = 5.0, 100_000


def stalls(ground: Ground, feed: Feed, log: Log, kills: int) -> list[float]:
    """Seconds from each kill -9 to the first prediction of what was not predicted before."""
    found = []
    with Instance(ground) as service, feed:
        service.start()
        for number in range(1, kills + 1):
            before = log.read()
            until(lambda before=before: log.read() > before)  # type: ignore[misc]  # bound now
            killed = time.monotonic()
            service.kill()
            log.read_to_end()
            before = log.predictions
            until(lambda before=before: log.read() > before)  # type: ignore[misc]  # bound now
            found.append(time.monotonic() - killed)
            say(f"kill {number} of {kills}: {found[-1]:.2f} s")
    return found


def restored(ground: Ground) -> tuple[int, float]:
    """Restore every partition as the service does, to its next batch; patients and seconds."""
    make = task_maker(ground.options, ground.model)
    tasks = {partition: make(partition) for partition in range(PARTITIONS)}
    began = time.monotonic()
    restore(ground.options, CHANGELOG, tasks)
    for task in tasks.values():
        list(task.handle([]))  # what happened since the last whole rows is done again
    seconds = time.monotonic() - began
    return sum(len(known_to(task)) for task in tasks.values()), seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=10_000)
    parser.add_argument("--hours", type=int, default=12, help="of state, at about an event each")
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    ending_by_signal()
    say("simulating the ward")
    codec, hours = Codec(REPO / "schemas"), given.hours
    going_on = vitals(5, beds=BEDS)
    past = list(itertools.islice(going_on, BEDS * hours))
    copies = max(1, given.patients // BEDS)
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port(), cache=here().cache)
        try:
            ground = Ground(broker.start(), Path(folder), ScoringSettings().model)
            say(f"filling {given.patients} patients")
            write(broker.bootstrap, crowd(past, codec, copies=copies))
            log = Log(ground.options, codec)
            log.read_to_end()
            tell = counting("predicted", len(past) * copies)
            with Instance(ground) as service:
                service.start()
                until(
                    lambda: tell(log.read()) > 0 and log.settled(ground.committed()), seconds=1_200
                )
            log.read_to_end()
            live = crowd(going_on, codec, copies=copies)
            feed = Feed(broker.bootstrap, live, rate=LIVE_PER_S)
            gone = stalls(ground, feed, log, given.kills)
            say("restoring")
            patients, restore_s = restored(ground)
            log.close()
        finally:
            broker.stop()
    report(given, gone, patients / restore_s)


def starting() -> dict[str, float]:
    """Give seconds of computing of a start, by what they were for."""
    program = Path(__file__).with_name("starting.py")
    done = subprocess.run([sys.executable, program], check=True, capture_output=True, cwd=REPO)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def report(given: argparse.Namespace, gone: list[float], rate: float) -> None:
    """Print the line."""
    p50, p95 = (float(x) for x in np.percentile(gone, [50, 95]))
    figures = {
        "kill_to_prediction_s": {"p50": round(p50, 2), "p95": round(p95, 2), "kills": len(gone)},
        "restored_patients_per_10_s": round(rate * 10),
        "start_cpu_s": starting(),
    }
    bars = {
        "kill_to_prediction_s": {"bar": NEXT_S, "reached": p95 <= NEXT_S},
        "restored_patients_per_10_s": {
            "bar": RESTORED_PER_10_S,
            "reached": rate * 10 >= RESTORED_PER_10_S,
        },
    }
    did = (
        f"{given.patients} patients, {given.hours} h of state each, {LIVE_PER_S:.0f} events/s live"
    )
    print(line("recovery", figures, {}, bars=bars, did=did, repetitions=1))


if __name__ == "__main__":
    main()
