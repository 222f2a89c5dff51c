"""What people changed and what was found, as marks on the time axes of boards in event time."""

from textwrap import dedent
from typing import Final

from dashboards.names import LEDGER
from dashboards.shapes import Json
from dashboards.states import PURPLE, VERMILLION

_CHANGES: Final = """
    SELECT effective_from AS time, concat(kind, ': ', subject) AS title,
        concat(reason, ' (', requested_by, '; approved by ', approved_by, ')') AS text,
        kind AS tags
    FROM changes
    WHERE $__timeFilter(effective_from) AND kind != 'access'
    ORDER BY time, offset
    LIMIT 1 BY change_id
"""
_SIGNALS: Final = """
    SELECT min(start) AS time, concat('signal: ', any(metric), ' ', any(feature)) AS title,
        concat(any(cohort), '. ', any(summary)) AS text, any(kind) AS tags
    FROM signals
    WHERE $__timeFilter(start) AND step = 'opened'
    GROUP BY signal_id
    ORDER BY time
"""


def changes() -> Json:
    """Mark what people changed, where it took effect."""
    return _asked("Changes", _CHANGES, PURPLE)


def signals() -> Json:
    """Mark where signals were opened."""
    return _asked("Signals", _SIGNALS, VERMILLION)


def _asked(name: str, text: str, color: str) -> Json:
    target = {
        "refId": "Annotation",
        "datasource": LEDGER,
        "editorType": "sql",
        "queryType": "table",
        "format": 1,
        "rawSql": dedent(text).strip(),
    }
    return {
        "name": name,
        "datasource": LEDGER,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "target": target,
    }
