"""What a panel asks: targets of the ClickHouse plugin and of Prometheus.

grafanalib's own target writes `format` as a word, where the ClickHouse plugin wants a number, and
data sources by name, where Grafana wants {type, uid}.
"""

from textwrap import dedent
from typing import Final

from dashboards.names import LEDGER, METRICS
from dashboards.shapes import Json, Query

_FORMATS: Final = {"timeseries": 0, "table": 1}
"""Numbers by which the ClickHouse plugin knows them."""


def sql(text: str) -> Query:
    """Ask the ledger."""
    return Query(dedent(text).strip(), LEDGER)


def promql(text: str, legend: str = "") -> Query:
    """Ask the metrics."""
    return Query(" ".join(text.split()), METRICS, legend)


def series(query: Query, reference: str = "A") -> Json:
    """Ask for lines over time."""
    if query.source == LEDGER:
        return _ledger(query, reference, "timeseries")
    return _metrics(query, reference, "time_series", instant=False)


def rows(query: Query, reference: str = "A", *, over_time: bool = False) -> Json:
    """Ask for a table; of metrics how they stand now, or over the time that is shown."""
    if query.source == LEDGER:
        return _ledger(query, reference, "table")
    return _metrics(query, reference, "table", instant=not over_time)


def _ledger(query: Query, reference: str, kind: str) -> Json:
    return {
        "refId": reference,
        "datasource": LEDGER,
        "editorType": "sql",
        "queryType": kind,
        "format": _FORMATS[kind],
        "rawSql": query.text,
    }


def _metrics(query: Query, reference: str, form: str, *, instant: bool) -> Json:
    return {
        "refId": reference,
        "datasource": METRICS,
        "editorMode": "code",
        "expr": query.text,
        "format": form,
        "instant": instant,
        "range": not instant,
        "legendFormat": query.legend or "__auto",
    }
