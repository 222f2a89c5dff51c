"""`make bench NAME=fuzz ARGS="--inputs 1000000"`: damaged messages into ingest, by the million.

Ends with 1, and shows the first inputs in hex, if an exception left the handler, a message had no
receipt, or something was refused for a reason that nobody foresaw.
"""

import argparse
import itertools
import random
import resource
import sys
import time
from collections import Counter

import builders
from mutation import corpus, mutants
from report import line

from services.core.errors import Reason
from services.core.events import Fate, Receipt
from services.ingest.pipeline import Ingest

SHOWN = 3
STEP = 50_000


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    heard: list[Receipt] = []
    task, fates, wrong = builders.ingest(heard.extend), Counter[str](), list[bytes]()
    began, before = time.process_time(), peak()
    damaged = mutants(corpus(), random.Random(given.seed))  # noqa: S311 - no secret
    for number, body in enumerate(itertools.islice(damaged, given.inputs)):
        heard.clear()
        if not survived(task, body, number, heard):
            wrong.append(body)
        for receipt in heard:
            fates.update(e.detail if e.fate is Fate.DEAD else e.fate for e in receipt.entries)
        if number % STEP == STEP - 1:
            sys.stderr.write(f"{number + 1} inputs, {len(wrong)} wrong\n")
    for body in wrong[:SHOWN]:
        sys.stderr.write(f"wrong: {body.hex()}\n")
    figures = {
        "inputs": given.inputs,
        "wrong": len(wrong),
        "cpu_s": round(time.process_time() - began, 1),
        "memory_growth_mib": round((peak() - before) / 1024, 1),
        "fates": dict(fates.most_common()),
    }
    print(line("fuzz", figures, {}, did=f"seed {given.seed}, examples and synthetic resources"))
    return 1 if wrong else 0


def survived(task: Ingest, body: bytes, number: int, heard: list[Receipt]) -> bool:
    """Say whether a message was read, or refused for a reason that has a name."""
    try:
        task.handle([builders.record(body, offset=number)])
    except Exception:  # noqa: BLE001 - it is what is looked for
        return False
    dead = [e.detail for r in heard for e in r.entries if e.fate is Fate.DEAD]
    return len(heard) == 1 and Reason.UNEXPECTED not in dead


def peak() -> int:
    """The most memory that this process ever had, KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
