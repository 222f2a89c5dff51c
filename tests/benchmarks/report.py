"""What every benchmark prints: one line of JSON that says figures, ratios and the machine."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

PACKAGES = ("confluent-kafka", "fastavro", "lightgbm", "msgspec", "numpy", "onnxruntime")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median and maximum of repetitions."""
    digits = 1 if statistics.median(values) > 1 else 4
    named = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {name: round(value, digits) for name, value in named.items()}


def line(bench: str, figures: Mapping[str, Any], ratios: Mapping[str, Any], **more: Any) -> str:
    """The line; `more` says what was done."""
    return json.dumps(
        {
            "schema": "vigil.bench/1",
            "bench": bench,
            "figures": dict(figures),
            "ratios": dict(ratios),
            **more,
            "machine": {
                "cores": os.cpu_count(),
                "load_before": [round(load, 2) for load in os.getloadavg()],
                "python": platform.python_version(),
                "versions": {name: version(name) for name in PACKAGES},
            },
        }
    )
