"""Names that others rely on: links, alerts and provisioning find boards and sources by them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from dashboards.shapes import Json

FOLDER: Final = "vigil"
"""Uid of the folder that holds the boards."""

BOARDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vigil-ward-now": "Ward now",
        "vigil-model-health": "Model health",
        "vigil-subgroups": "Subgroups",
        "vigil-alerts-and-answers": "Alerts and answers",
        "vigil-pipeline": "Pipeline",
        "vigil-ledger": "Ledger",
    }
)
"""Title by uid, in the order in which people look. Frozen: a uid never gets another meaning."""

LEDGER: Final[Json] = {"type": "grafana-clickhouse-datasource", "uid": "${ledger}"}
METRICS: Final[Json] = {"type": "prometheus", "uid": "${metrics}"}
"""Data sources as panels name them: by variable, so that a site may choose its own."""

LEDGER_UID: Final = "vigil-clickhouse"
METRICS_UID: Final = "vigil-prometheus"
"""What the variables stand for unless somebody chooses; infra/grafana provisions both."""
