"""One life of the real scoring service, with a point at which it strikes itself, or with a bug.

Nothing of `services.scoring` is imported before the bug is planted.
"""

import argparse
import math
import signal
import sys
from importlib import import_module

from chaos.bugs import BUGS


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bug", choices=BUGS)
    parser.add_argument("--point")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--signal", choices=("SIGKILL", "SIGSTOP"), default="SIGKILL")
    given = parser.parse_args()
    if given.bug:
        BUGS[given.bug]()
    if given.point:
        points = import_module("chaos.points")
        number = signal.Signals[given.signal]
        points.arm(points.Trigger(given.point, passes=given.passes, number=number))
        if number == signal.SIGSTOP:
            # The watchdog would end it as it wakes: it must try to write, and must not be able to.
            points.replace(import_module("services.runtime.worker"), "WATCHDOG_S", math.inf)
    sys.argv = ["services.scoring"]
    return int(import_module("services.scoring.__main__").main())


if __name__ == "__main__":
    sys.exit(main())
