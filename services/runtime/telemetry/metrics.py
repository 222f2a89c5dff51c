"""Prometheus metrics as `core.metrics` names them, in a registry of the service's own."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from services.core.metrics import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    PREFIX,
    CounterName,
    GaugeName,
    HistogramName,
    Metric,
)
from services.runtime.telemetry.build import Build


def observe(histogram: Histogram, amounts: NDArray[np.float64]) -> None:
    """Observe many amounts; as `histogram.observe` would one after the other, but for rounding."""
    # The library has no call for many, and one for each costs as much as scoring what it counts.
    bounds = histogram._upper_bounds  # noqa: SLF001 - see above
    histogram._sum.inc(float(amounts.sum()))  # noqa: SLF001 - the same
    places = np.searchsorted(bounds, amounts[~np.isnan(amounts)])
    for place, many in enumerate(np.bincount(places).tolist()):
        if many:
            histogram._buckets[place].inc(many)  # noqa: SLF001 - the same


class Metrics:
    """The metrics of one service; every method is thread-safe and cheap.

    The label `service` is filled in; the others are given by name.
    """

    def __init__(self, build: Build) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter that nobody reads
        self.registry = registry = CollectorRegistry()
        self._service = build.service
        self._counters = {
            name: Counter(PREFIX + name, of.meaning, of.labels, registry=registry)
            for name, of in COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(PREFIX + name, of.meaning, of.labels, registry=registry)
            for name, of in GAUGES.items()
        }
        self._histograms = {
            name: Histogram(
                PREFIX + name, of.meaning, of.labels, registry=registry, buckets=of.buckets
            )
            for name, of in HISTOGRAMS.items()
        }
        ProcessCollector(namespace="vigil", registry=registry)
        facts = (build.version, build.revision, build.python)
        labels = ("version", "revision", "python")
        Gauge(PREFIX + "build_info", "Which program this is.", labels, registry=registry).labels(
            *facts
        ).set(1)

    def counter(self, name: CounterName, **labels: str) -> Counter:
        """Give the series of a counter with these labels.

        Raises:
            KeyError: a label of the metric is missing.
        """
        return self._counters[name].labels(*self._values(COUNTERS[name], labels))

    def gauge(self, name: GaugeName, **labels: str) -> Gauge:
        """Give the series of a gauge with these labels; raises as `counter` does."""
        return self._gauges[name].labels(*self._values(GAUGES[name], labels))

    def histogram(self, name: HistogramName, **labels: str) -> Histogram:
        """Give the series of a histogram with these labels; raises as `counter` does."""
        return self._histograms[name].labels(*self._values(HISTOGRAMS[name], labels))

    def forget(self, name: GaugeName, **labels: str) -> None:
        """Take a series away, as for a partition that was given up; an unknown one is no error."""
        self._gauges[name].remove(*self._values(GAUGES[name], labels))

    def exposition(self) -> bytes:
        """Give every series in Prometheus' text format."""
        return generate_latest(self.registry)

    def _values(self, metric: Metric, labels: Mapping[str, str]) -> list[str]:
        known = {"service": self._service, **labels}
        return [known[label] for label in metric.labels]
