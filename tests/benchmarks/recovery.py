"""`make bench NAME=recovery`: how soon scoring goes on after a kill -9, and what state costs.

Kills are of the real service, restarted at once, with so many patients of state and a live feed;
an outside reader of committed predictions sees the next one. The restore is the service's own, in
this process. Memory and throughput are those of the pure tasks, in a fresh process per size.
"""

import argparse
import gc
import itertools
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from catch_up import write
from chaos.crowd import crowd
from chaos.feed import Feed, vitals
from chaos.ground import PARTITIONS, Ground, Instance, until
from chaos.log import Log
from chaos.oracle import known_to
from chaos.siege import task_maker
from progress import counting, ending_by_signal, say
from report import line

from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.codec import Codec
from services.runtime.kafka.client import Options
from services.runtime.ports import Output, Record, Task
from services.runtime.tables import restore
from services.scoring.outputs import CHANGELOG, VITALS
from services.scoring.settings import ScoringSettings

BEDS = 100
CHUNK = 500
LIVE_PER_S = 300.0
MEASURED = 10_000
"""Events on which the throughput is measured."""
KIB = 1024
NEXT_S, RESTORED_PER_10_S, MEMORY_KB, SLOWER = 5.0, 100_000, 4.0, 0.2


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


def resident_kb() -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return float(found[1])


def handled(tasks: Sequence[Task], outputs: Sequence[Output], at: int) -> None:
    """Let each partition's task handle its share, and give up the rows of its changelog."""
    for partition, task in enumerate(tasks):
        share = [o.value for o in outputs if o.partition == partition]
        records = [Record(VITALS, partition, at + i, 0, None, v) for i, v in enumerate(share)]
        for _ in task.handle(records):
            pass
        list(task.changes())


def state_of(
    options: Options, model: Path, events: Sequence[Output], *, filling: int, copies: int
) -> dict[str, float]:
    """Fill fresh tasks with a crowd, then measure on what comes next of it."""
    make, codec = task_maker(options, model), Codec(REPO / "schemas")
    tasks = [make(partition) for partition in range(PARTITIONS)]
    handled([make(p) for p in range(PARTITIONS)], events[:CHUNK], 0)  # what every process pays
    gc.collect()
    before_kb, at = resident_kb(), 0
    told = crowd(events[:filling], codec, copies=copies)
    while chunk := list(itertools.islice(told, CHUNK * PARTITIONS)):
        handled(tasks, chunk, at)
        at += len(chunk)
    gc.collect()
    patients = copies * len({event.key for event in events[:filling] if event.key})
    per_patient = (resident_kb() - before_kb) / patients
    cpu_s = 0.0
    told = itertools.islice(crowd(events[filling:], codec, copies=copies), MEASURED)
    while chunk := list(itertools.islice(told, CHUNK * PARTITIONS)):
        began = time.process_time()
        handled(tasks, chunk, at)
        cpu_s += time.process_time() - began
        at += len(chunk)
    rows = [len(row) for task in tasks for row in known_to(task).values()]
    return {
        "patients": patients,
        "kb_per_patient": round(per_patient, 2),
        "row_bytes_median": float(np.median(rows)),
        "events_per_cpu_s": round(MEASURED / cpu_s, 1),
    }


def in_a_fresh_process(*given: Any, **named: Any) -> dict[str, float]:
    """Run `state_of` where nothing was allocated before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(state_of, given, named)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=10_000)
    parser.add_argument("--hours", type=int, default=12, help="of state, at about an event each")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 10_000, 100_000])
    given = parser.parse_args()
    ending_by_signal()
    say("simulating the ward")
    codec, hours = Codec(REPO / "schemas"), given.hours
    going_on = vitals(5, beds=BEDS)
    past = list(itertools.islice(going_on, BEDS * hours))
    later = list(itertools.islice(going_on, MEASURED))
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
                until(lambda: tell(log.read()) > 0 and log.settled(ground.committed()), 1_200)
            log.read_to_end()
            live = crowd(itertools.chain(later, going_on), codec, copies=copies)
            feed = Feed(broker.bootstrap, live, rate=LIVE_PER_S)
            gone = stalls(ground, feed, log, given.kills)
            say("restoring, and measuring what state costs")
            patients, restore_s = restored(ground)
            log.close()
            shared = (ground.options, ground.model, [*past, *later])
            sizes = [
                in_a_fresh_process(*shared, filling=len(past), copies=max(1, n // BEDS))
                for n in given.sizes
            ]
        finally:
            broker.stop()
    report(given, gone, patients / restore_s, sizes)


def starting() -> dict[str, float]:
    """Give seconds of computing of a start, by what they were for."""
    program = Path(__file__).with_name("starting.py")
    done = subprocess.run([sys.executable, program], check=True, capture_output=True, cwd=REPO)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def report(
    given: argparse.Namespace, gone: list[float], rate: float, sizes: list[dict[str, float]]
) -> None:
    """Print the line."""
    p50, p95 = (float(x) for x in np.percentile(gone, [50, 95]))
    slower = 1 - sizes[-1]["events_per_cpu_s"] / max(size["events_per_cpu_s"] for size in sizes)
    figures = {
        "kill_to_prediction_s": {"p50": round(p50, 2), "p95": round(p95, 2), "kills": len(gone)},
        "restored_patients_per_10_s": round(rate * 10),
        "start_cpu_s": starting(),
        "state": sizes,
    }
    ratios = {"slower_at_the_largest": round(slower, 3)}
    memory = max(size["kb_per_patient"] for size in sizes[1:] or sizes)
    bars = {
        "kill_to_prediction_s": {"bar": NEXT_S, "reached": p95 <= NEXT_S},
        "restored_patients_per_10_s": {
            "bar": RESTORED_PER_10_S,
            "reached": rate * 10 >= RESTORED_PER_10_S,
        },
        "kb_per_patient": {"bar": MEMORY_KB, "reached": memory <= MEMORY_KB},
        "slower_at_the_largest": {"bar": SLOWER, "reached": slower <= SLOWER},
    }
    did = (
        f"{given.patients} patients, {given.hours} h of state each, {LIVE_PER_S:.0f} events/s live"
    )
    print(line("recovery", figures, ratios, bars=bars, did=did, repetitions=1))


if __name__ == "__main__":
    main()
