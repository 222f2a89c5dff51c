"""What a long bench says while it works, and how it ends when it is told to."""

import signal
import sys
import time
from collections.abc import Callable

EVERY_S = 5.0


def ending_by_signal() -> None:
    """Let SIGTERM unwind the program as Ctrl-C does, so that brokers and services are ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(text + "\n")


def counting(what: str, goal: int) -> Callable[[int], int]:
    """Give a function that takes how many are done, tells it now and then, and gives it back."""
    began, told_at = time.monotonic(), time.monotonic()

    def tell(done: int) -> int:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at > EVERY_S:
            told_at = now
            say(f"{what}: {done} of {goal}, {done / (now - began):.0f}/s")
        return done

    return tell
