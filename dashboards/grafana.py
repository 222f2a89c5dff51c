"""The door to grafanalib: its objects in, plain JSON of a present-day Grafana out.

grafanalib 0.7.1 writes a dashboard of schema version 12: fields that Grafana has dropped since,
and `__inputs`, which make a provisioned board ask its reader for a data source.
"""

import json
from typing import Any, Final

from grafanalib import core  # type: ignore[import-untyped]  # it ships no types
from grafanalib._gen import DashboardEncoder  # type: ignore[import-untyped]  # no types

from dashboards.shapes import Json

SCHEMA_VERSION: Final = 41
"""Of Grafana 11.6 and later; newer ones migrate it by themselves."""
_GONE: Final = frozenset(
    {
        "__inputs", "cacheTimeout", "columns", "editable", "error", "fontSize", "gnetId", "height",
        "hideControls", "maxPerRow", "minSpan", "repeat", "repeatDirection", "rows",
        "sharedCrosshair", "span", "style", "tagValuesQuery", "tagsQuery", "time_options",
        "useTags",
    }
)  # fmt: skip
_AUTO: Final = frozenset({"auto", "auto_count", "auto_min"})
"""Of interval variables, of which there are none here."""


def time_series(**of: Any) -> Json:
    """Lines or bars over time."""
    return _plain(core.TimeSeries(**of))


def state_timeline(**of: Any) -> Json:
    """Bands of states over time."""
    return _plain(core.StateTimeline(**of))


def stat(**of: Any) -> Json:
    """One value, large."""
    return _plain(core.Stat(**of))


def table(**of: Any) -> Json:
    """A table."""
    made = _plain(core.Table(**of))
    return {key: value for key, value in made.items() if key not in {"color", "mappings"}}


def bar_chart(**of: Any) -> Json:
    """Bars by name."""
    return _plain(core.BarChart(**of))


def folded_row(title: str, panels: list[Json], place: Json) -> Json:
    """A row that is closed until somebody opens it."""
    made = _plain(core.RowPanel(title=title, collapsed=True))
    kept = {key: made[key] for key in ("type", "title", "collapsed")}
    return kept | {"panels": panels, "gridPos": place}


def template(**of: Any) -> Json:
    """A variable."""
    made = _plain(core.Template(**of))
    return {key: value for key, value in made.items() if key not in _AUTO}


def link(title: str, uid: str) -> Json:
    """A link to another board, which takes the time range and what was chosen along."""
    made = core.DashboardLink(
        title=title, type="link", uri=f"/d/{uid}", icon="dashboard", includeVars=True
    )
    return _plain(made)


def dashboard(*, title: str, panels: list[Json], since: str, **of: Any) -> Json:
    """A whole board, without id: the Grafana that takes it gives it one."""
    made = core.Dashboard(
        title=title,
        time=core.Time(since, "now"),
        schemaVersion=SCHEMA_VERSION,
        timezone="browser",
        graphTooltip=core.GRAPH_TOOLTIP_MODE_SHARED_CROSSHAIR,
        annotations=core.Annotations(of.pop("annotations")),
        templating=core.Templating(of.pop("variables")),
        **of,
    )
    return _plain(made) | {"id": None, "panels": panels, "editable": False}


def _plain(made: Any) -> Json:
    found: Json = json.loads(json.dumps(made, cls=DashboardEncoder))
    return _pruned(found)


def _pruned(found: Json) -> Json:
    """Without what is null or gone; the null of a threshold step is minus infinity and stays."""
    kept = {k: v for k, v in found.items() if v is not None and k not in _GONE}
    return {k: _pruned(v) if isinstance(v, dict) else v for k, v in kept.items()}
