"""`python tests/benchmarks/starting.py`: seconds of computing until scoring turns to Kafka.

Run in a process of its own: nothing that is measured may have been imported before.
"""

import json
import sys
import time
from importlib import import_module


def main() -> None:
    spent, before = {}, 0.0

    def done(name: str) -> None:
        nonlocal before
        now = time.process_time()
        spent[name], before = round(now - before, 2), now

    done("python")
    service = import_module("services.scoring.__main__")
    settings = import_module("services.scoring.settings").ScoringSettings()
    codec = import_module("services.runtime.codec").Codec(settings.schemas)
    done("imports")
    service.warm(codec)
    done("compiled_loops")
    service.engine(settings.model, role=settings.role, topic_id="")
    done("model")
    sys.stdout.write(json.dumps(spent) + "\n")


if __name__ == "__main__":
    main()
