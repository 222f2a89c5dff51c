"""How fast the machine itself is while a bench runs: one piece of work, again and again.

A virtual machine shares its cores: for seconds or minutes the same work can take twice the time
on them. Without this, a bench of a rate near the limit tells of neighbours and not of the code.
"""

import statistics
import threading
import time
from collections.abc import Sequence
from typing import Self

EVERY_S = 0.5
TRIES = 3
WINDOW_S = 10.0
STEPS = 6_000
DIGITS = 3

Sample = tuple[float, float]
"""When, and how long the work took, both in seconds."""


class Pace:
    """Does the work in a thread; a few milliseconds of it a second."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._ending.wait(EVERY_S):
            # The first finds the caches full of others' work, and whoever waits has no CPU time.
            took = min(work() for _ in range(TRIES))
            self._samples.append((time.monotonic(), took))

    def between(self, began: float, ended: float) -> dict[str, float]:
        """Give the CPU time of the work, ms: in the median, and in the slowest ten seconds.

        Args:
            began: by `time.monotonic`.
            ended: the same.
        """
        seen = [sample for sample in self._samples if began <= sample[0] <= ended]
        if not seen:
            return {}
        return {
            "median": round(1000 * statistics.median(took for _, took in seen), DIGITS),
            "slowest_10s": round(1000 * slowest(seen, WINDOW_S), DIGITS),
        }


def work() -> float:
    """Do always the same, and give the CPU time that it took, in seconds."""
    began, told = time.thread_time(), dict[int, str]()
    for step in range(STEPS):
        told[step & 255] = str(step)
    return time.thread_time() - began


def slowest(samples: Sequence[Sample], window_s: float) -> float:
    """Give the greatest median of any stretch of so many seconds that begins with a sample.

    Args:
        samples: in their order, at least one; where they span less, all are the stretch.
        window_s: length of a stretch, seconds.
    """
    last = samples[-1][0]
    found = [
        statistics.median(took for at, took in samples if began <= at < began + window_s)
        for began, _ in samples
        if began + window_s <= last
    ]
    return max(found, default=statistics.median(took for _, took in samples))
