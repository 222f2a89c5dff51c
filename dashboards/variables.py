"""What readers may choose: the data sources, and the unit, model, window they look at.

All stands for everything, not for a list, so that a unit that is new is never left out. Grafana
sends what All stands for as it is, and what was chosen in the format that a query asks for: units,
whose names are the hospital's, as SQL strings; models, for Prometheus too, as expressions.
"""

from collections.abc import Mapping
from typing import Final

from dashboards.grafana import template
from dashboards.names import LEDGER, LEDGER_UID, METRICS_UID
from dashboards.shapes import Json

_CHANGED_RANGE: Final = 2
_HIDDEN: Final = 2


def sources() -> list[Json]:
    """Choose the two data sources; provisioned ones are chosen already."""
    return [
        _source("ledger", "grafana-clickhouse-datasource", "Vigil ledger", LEDGER_UID),
        _source("metrics", "prometheus", "Vigil metrics", METRICS_UID),
    ]


def unit() -> Json:
    """Choose units of the hospital."""
    return _asked(
        "unit",
        "Unit",
        "SELECT DISTINCT unit FROM predictions"
        " WHERE timestamp > now() - INTERVAL 7 DAY AND unit NOT IN ('', 'unknown')"
        " UNION DISTINCT SELECT substring(cohort, 6) FROM measurements"
        " WHERE startsWith(cohort, 'unit=')",
        every="'*'",
    )


def model() -> Json:
    """Choose models, whatever their version."""
    query = "SELECT DISTINCT model_name FROM predictions WHERE timestamp > now() - INTERVAL 30 DAY"
    return _asked("model", "Model", query, every=".*")


def window() -> Json:
    """Choose how long the windows are, h."""
    query = "SELECT DISTINCT toString(dateDiff('hour', start, end)) FROM measurements"
    return _asked("window", "Window, h", query, first="24")


def feature(names: Mapping[str, str]) -> Json:
    """Choose one feature, by the words for it."""
    return choice("feature", "Feature", names)


def asked(name: str, label: str, query: str) -> Json:
    """Choose one of what the ledger knows; the first unless somebody chooses."""
    return _asked(name, label, query)


def choice(name: str, label: str, values: Mapping[str, str]) -> Json:
    """Choose one of these; the first unless somebody chooses.

    Args:
        name: of the variable.
        label: what readers see.
        values: words by value.
    """
    first = next(iter(values))
    options = [
        {"selected": value == first, "text": words, "value": value}
        for value, words in values.items()
    ]
    query = ", ".join(f"{words} : {value}" for value, words in values.items())
    return template(
        name=name, label=label, query=query, type="custom", options=options, default=first
    )


def _source(name: str, kind: str, words: str, uid: str) -> Json:
    made = template(name=name, label=words, query=kind, type="datasource", hide=_HIDDEN)
    return made | {"current": {"selected": True, "text": words, "value": uid}}


def _asked(name: str, label: str, query: str, *, first: str = "", every: str = "") -> Json:
    """All of them together where something stands for that, else one."""
    made = template(
        name=name,
        label=label,
        query=query,
        dataSource=LEDGER,
        includeAll=bool(every),
        multi=bool(every),
        allValue=every or None,
        refresh=_CHANGED_RANGE,
    )
    chosen = {"text": ["All"], "value": ["$__all"]} if every else {"text": first, "value": first}
    return made | {"current": {"selected": True, **chosen}}
