"""What a service tells of its work at `/metrics`, as much of it as a command shows."""

import math
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from services.core.metrics import PREFIX, CounterName, GaugeName

ANSWER_S: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One number of a metric, with its labels."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, kw_only=True)
class Meters:
    """The numbers of one service, by metric; empty when it does not tell."""

    samples: Mapping[str, list[Sample]]

    def of(self, name: GaugeName | CounterName, **labels: str) -> list[float]:
        """The numbers of a metric whose labels are these; none that is no number."""
        return [
            sample.value
            for sample in self.samples.get(PREFIX + name, [])
            if labels.items() <= sample.labels.items() and math.isfinite(sample.value)
        ]

    @property
    def lag(self) -> int | None:
        """Records that wait in the partition where most do; 0 or 1 at rest."""
        return int(max(found)) if (found := self.of("lag_records")) else None

    @property
    def watermark_at(self) -> float | None:
        """Event time of the partition that is furthest behind, s since 1970."""
        return min(found) if (found := self.of("watermark_timestamp_seconds")) else None


SILENT: Final = Meters(samples={})


def meters(port: int, given: Mapping[str, str]) -> Meters:
    """Asks a service of this machine.

    Args:
        port: where it answers.
        given: may name the file of the token that `/metrics` asks for.
    """
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=_token(given))
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310 - as above
            return read(answer.read().decode())
    except (urllib.error.URLError, OSError, ValueError):
        return SILENT


def read(text: str) -> Meters:
    """Reads the text format of Prometheus.

    Raises:
        ValueError: it is something else.
    """
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            found.setdefault(name, []).append(Sample(labels=labels, value=value))
    return Meters(samples=found)


def _token(given: Mapping[str, str]) -> dict[str, str]:
    path = given.get("VIGIL_METRICS_TOKEN_FILE")
    try:
        return {"Authorization": f"Bearer {Path(path).read_text().strip()}"} if path else {}
    except OSError:
        return {}
