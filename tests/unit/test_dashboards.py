"""The committed boards, held against the conventions, the code, and Grafana's own models."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import boards
import pytest
import yaml
from boards import Json
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from grafanalib import formatunits  # type: ignore[import-untyped]  # it ships no types
from typer.testing import CliRunner

from dashboards.build import FOLDER, differing, files, write
from dashboards.names import BOARDS, LEDGER_UID, METRICS_UID
from dashboards.names import FOLDER as GRAFANAS_FOLDER
from dashboards.panels import TWIN
from dashboards.states import NO_COLOR, PALETTE
from dashboards.words import MEASURES
from services.cli.dashboards import app
from services.core import measures, metrics
from services.core.cohorts import GROUP_DIMENSIONS
from services.core.events import State
from services.local.home import REPO

ALL = boards.boards()
PANELS = [(uid, panel) for uid, board in ALL.items() for panel in boards.panels(board)]
QUERIES = boards.queries()
LEDGER = [asked for asked in QUERIES if asked.kind == boards.LEDGER and asked.target]
METRICS = [asked for asked in QUERIES if asked.kind == "prometheus"]
PLOTS = {"timeseries", "state-timeline", "barchart"}
UNITS = {value for value in vars(formatunits).values() if isinstance(value, str)} | {"string"}
PROVISIONED = REPO / "infra" / "grafana" / "provisioning"
# Series that are Prometheus' own, and the labels that it adds.
OF_PROMETHEUS = {"up", "ALERTS", "vigil_process_start_time_seconds"}
ADDED = {"job", "instance", "le", "alertname", "alertstate", "severity", "audience"}


def named(panel: Any) -> str:
    return f"{panel[0]}: {panel[1]['title']}"


def found(content: Any, key: str) -> list[Any]:
    """Every value that stands under a key, however deep."""
    if isinstance(content, list):
        return [each for item in content for each in found(item, key)]
    if not isinstance(content, dict):
        return []
    own = [content[key]] if key in content else []
    return own + [each for item in content.values() for each in found(item, key)]


def test_the_files_that_are_committed_are_those_that_the_code_makes() -> None:
    assert list(differing(FOLDER)) == []
    assert set(files()) == {path.name for path in FOLDER.glob("*.json")}


def test_the_same_bytes_come_whatever_the_order_of_hashes() -> None:
    program = "from dashboards.build import files; print(files())"
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=REPO,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(told) == 1


def test_uids_are_a_frozen_list() -> None:
    assert list(BOARDS) == [
        "vigil-ward-now",
        "vigil-model-health",
        "vigil-subgroups",
        "vigil-alerts-and-answers",
        "vigil-pipeline",
        "vigil-ledger",
    ]
    assert GRAFANAS_FOLDER == "vigil"


@pytest.mark.parametrize("uid", ALL)
def test_a_board_is_as_the_conventions_say(uid: str) -> None:
    board = ALL[uid]
    assert (board["uid"], board["title"], board["id"]) == (uid, BOARDS[uid], None)
    assert re.fullmatch(r"vigil-[a-z-]+", uid)
    assert len(uid) <= 40
    assert board["schemaVersion"] >= 39
    assert "__inputs" not in board
    assert "${DS_" not in json.dumps(board)
    assert board["tags"][0] == "vigil"
    assert len(board["tags"]) == 2
    assert board["description"].endswith((".", "?"))


def test_every_board_has_an_area_of_its_own() -> None:
    areas = [board["tags"][1] for board in ALL.values()]
    assert len(set(areas)) == len(areas)


@pytest.mark.parametrize("panel", PANELS, ids=named)
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: tuple[str, Json]) -> None:
    shown = panel[1]
    assert re.fullmatch(r"[A-Z0-9].+[.]", shown["description"], re.DOTALL)
    defaults = shown["fieldConfig"]["defaults"]
    units = [defaults["unit"], *(p["value"] for p in properties(shown, "unit"))]
    assert set(units) <= UNITS


@pytest.mark.parametrize("uid", ALL)
def test_panels_have_numbers_and_titles_of_their_own(uid: str) -> None:
    numbers = [panel["id"] for panel in boards.panels(ALL[uid])]
    numbers += [panel["id"] for panel in ALL[uid]["panels"] if panel["type"] == "row"]
    titles = [panel["title"] for panel in boards.panels(ALL[uid])]
    assert max(Counter(numbers).values()) == 1
    assert max(Counter(titles).values()) == 1


@pytest.mark.parametrize("uid", ALL)
def test_no_panel_overlaps_another_or_leaves_the_grid(uid: str) -> None:
    top = ALL[uid]["panels"]
    for level in (top, [*top, *found([p for p in top if p["type"] == "row"], "panels")[0]]):
        places = [panel["gridPos"] for panel in level]
        assert all(p["x"] >= 0 and p["w"] > 0 and p["h"] > 0 for p in places)
        assert all(p["x"] + p["w"] <= 24 for p in places)
        for one, other in combinations(places, 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or above, (one, other)


@pytest.mark.parametrize("uid", ALL)
def test_a_board_begins_with_a_few_large_values_and_is_no_wall_of_numbers(uid: str) -> None:
    open_ones = [panel for panel in ALL[uid]["panels"] if panel["type"] != "row"]
    first = [panel["type"] for panel in open_ones if panel["gridPos"]["y"] == 0]
    assert set(first) == {"stat"}
    assert sum(p["gridPos"]["w"] for p in open_ones if p["gridPos"]["y"] == 0) == 24
    assert [panel["type"] for panel in open_ones].count("stat") <= 6
    assert len(open_ones) <= 16


@pytest.mark.parametrize("uid", ALL)
def test_every_plot_has_a_table_of_the_same_source_in_the_folded_row(uid: str) -> None:
    [row] = [panel for panel in ALL[uid]["panels"] if panel["type"] == "row"]
    assert row["collapsed"]
    assert row is ALL[uid]["panels"][-1]
    plots = [panel for panel in ALL[uid]["panels"] if panel["type"] in PLOTS]
    twins = {panel["title"]: panel for panel in row["panels"]}
    assert set(twins) == {plot["title"] + TWIN for plot in plots}
    for plot in plots:
        twin = twins[plot["title"] + TWIN]
        assert twin["type"] == "table"
        assert twin["datasource"] == plot["datasource"]
        assert twin.get("timeFrom") == plot.get("timeFrom")


def test_data_sources_are_variables_that_stand_for_those_that_are_provisioned() -> None:
    content = yaml.safe_load((PROVISIONED / "datasources" / "vigil.yml").read_text())
    kinds = {source["uid"]: source["type"] for source in content["datasources"]}
    for board in ALL.values():
        chosen = {
            variable["name"]: (variable["query"], variable["current"]["value"])
            for variable in board["templating"]["list"]
            if variable["type"] == "datasource"
        }
        assert {uid for _, uid in chosen.values()} == {LEDGER_UID, METRICS_UID}
        assert all(kinds[uid] == kind for kind, uid in chosen.values())
        named = found(board, "datasource")
        assert all(set(source) == {"type", "uid"} for source in named)
        known = {(kind, f"${{{name}}}") for name, (kind, _) in chosen.items()}
        assert {(source["type"], source["uid"]) for source in named} <= known


def test_provisioning_reads_the_folder_that_compose_mounts_into_the_folder_of_that_name() -> None:
    content = yaml.safe_load((PROVISIONED / "dashboards" / "vigil.yml").read_text())
    [provider] = content["providers"]
    assert provider["folderUid"] == GRAFANAS_FOLDER
    compose = yaml.safe_load((REPO / "docker-compose.yml").read_text())
    path = provider["options"]["path"]
    assert f"./{FOLDER.relative_to(REPO)}:{path}:ro" in compose["services"]["grafana"]["volumes"]


@pytest.mark.parametrize("uid", ALL)
def test_links_lead_to_boards_that_exist_and_every_board_to_all_others(uid: str) -> None:
    urls = [url for url in found(ALL[uid], "url") if isinstance(url, str)]
    assert {url.partition("?")[0] for url in urls} <= {f"/d/{other}" for other in BOARDS}
    assert {link["url"] for link in ALL[uid]["links"]} == {f"/d/{o}" for o in BOARDS if o != uid}
    variables = {f"var-{v['name']}" for board in ALL.values() for v in board["templating"]["list"]}
    assert {name for url in urls for name in re.findall(r"var-\w+", url)} <= variables


def test_alerts_of_prometheus_lead_to_boards_that_exist() -> None:
    rules = yaml.safe_load((REPO / "infra" / "prometheus" / "rules" / "alerts.yml").read_text())
    urls = found(rules, "dashboard_url")
    assert urls
    assert {url.rpartition("/d/")[2] for url in urls} <= set(BOARDS)


@pytest.mark.parametrize("asked", LEDGER, ids=str)
def test_a_question_to_the_ledger_has_the_form_that_the_plugin_wants(
    asked: boards.Asked,
) -> None:
    target = asked.target
    assert set(target) == {"refId", "datasource", "editorType", "queryType", "format", "rawSql"}
    assert target["editorType"] == "sql"
    assert target["format"] == {"timeseries": 0, "table": 1}[target["queryType"]]
    plot = asked.panel.get("type") in {"timeseries", "state-timeline"}
    assert plot == (target["format"] == 0)


@pytest.mark.parametrize("asked", LEDGER, ids=str)
def test_a_question_to_the_ledger_keeps_to_the_time_that_is_shown_or_says_so(
    asked: boards.Asked,
) -> None:
    bounded = "$__timeFilter(" in asked.text
    assert bounded or "whatever time is shown" in asked.panel["description"] or latest(asked)


def latest(asked: boards.Asked) -> bool:
    """The one that took effect last stands in force until the next."""
    return asked.title == "Baseline in use"


@pytest.mark.parametrize("asked", LEDGER, ids=str)
def test_a_question_to_the_ledger_asks_only_for_what_readers_of_boards_may_see(
    asked: boards.Asked,
) -> None:
    roles = (REPO / "infra" / "clickhouse" / "roles.sql").read_text()
    granted = set(re.findall(r"GRANT SELECT ON (\w+) TO vigil_reader", roles))
    [columns] = re.findall(r"GRANT SELECT\(([^)]*)\) ON ledger TO vigil_reader", roles)
    tables = set(re.findall(r"(?:FROM|JOIN) ([a-z]\w+)", asked.text))
    assert tables
    assert tables <= granted | {"ledger"}
    if "ledger" in tables:
        words = set(re.findall(r"\b[a-z_0-9]+\b", re.sub(r"'[^']*'|\"[^\"]*\"", "", asked.text)))
        held = {"key", "value", "header_names", "header_values", "sha256", "leaf", "chain"}
        assert not words & (held - set(columns.split(", ")))


@pytest.mark.parametrize("asked", METRICS, ids=str)
def test_every_series_and_label_that_is_asked_for_is_published(asked: boards.Asked) -> None:
    text = re.sub(r"\[[^\]]*\]", "", asked.text)
    bare = re.sub(r"\{[^}]*\}|\b(?:by|on) \([^)]*\)", "", text)
    ends = {f"{n}{end}" for n in metrics.HISTOGRAMS for end in ("_bucket", "_count", "_sum")}
    names = (*metrics.COUNTERS, *metrics.GAUGES, *ends)
    series = set(re.findall(r"\b(?:vigil_\w+|up|ALERTS)\b", bare))
    assert series
    assert series <= {metrics.PREFIX + name for name in names} | OF_PROMETHEUS
    labels = set(re.findall(r"(\w+) ?(?:=~|!~|!=|=)", " ".join(re.findall(r"\{[^}]*\}", text))))
    labels |= {
        label
        for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", text)
        for label in group.split(", ")
    }
    assert labels <= {*metrics.LABELS, *ADDED}


def test_what_is_asked_of_a_metric_has_that_label() -> None:
    specs: dict[str, metrics.Metric] = {}
    for kind in (metrics.COUNTERS, metrics.GAUGES, metrics.HISTOGRAMS):
        specs |= dict(kind.items())
    for asked in METRICS:
        for name, matched in re.findall(r"(vigil_\w+)\{([^}]*)\}", asked.text):
            bare = re.sub(r"_(bucket|count|sum)$", "", name.removeprefix(metrics.PREFIX))
            of = specs.get(bare) or specs[name.removeprefix(metrics.PREFIX)]
            assert set(re.findall(r"(\w+) ?(?:=~|!~|!=|=)", matched)) <= {*of.labels, "job"}


def properties(panel: Json, name: str) -> list[Json]:
    overrides = panel["fieldConfig"].get("overrides", [])
    return [p for override in overrides for p in override["properties"] if p["id"] == name]


def test_colors_are_of_the_palette_that_the_color_blind_can_tell_apart() -> None:
    for _, panel in PANELS:
        colors = [*found(panel, "color"), *found(panel, "fixedColor")]
        told = {color for color in colors if isinstance(color, str)}
        assert told <= {*PALETTE, NO_COLOR}


def test_a_value_that_has_a_color_has_a_sign_and_a_word_too() -> None:
    looks = [
        look
        for _, panel in PANELS
        for options in found(panel, "options")
        for look in told(options)
    ]
    assert looks
    colored = [look for look in looks if "color" in look]
    assert all(re.fullmatch(r"[✓▲■] \w.*", look["text"]) for look in colored)
    by_color: dict[str, set[str]] = {}
    for look in colored:
        by_color.setdefault(look["color"], set()).add(look["text"][0])
    assert all(len(signs) == 1 for signs in by_color.values()), by_color


def told(options: Any) -> list[Json]:
    values = options.values() if isinstance(options, dict) else ()
    return [value for value in values if isinstance(value, dict) and "index" in value]


@pytest.mark.parametrize("word", [str(State.INSUFFICIENT), "suppressed"])
def test_what_cannot_be_judged_or_shown_has_no_color(word: str) -> None:
    looks = [
        look
        for _, panel in PANELS
        for options in found(panel, "options")
        for look in told(options)
        if word in look["text"]
    ]
    assert looks
    assert all("color" not in look for look in looks)


@pytest.mark.parametrize("panel", PANELS, ids=named)
def test_nothing_is_colored_but_by_its_value(panel: tuple[str, Json]) -> None:
    steps = panel[1]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps[0] == {"color": NO_COLOR, "value": None}
    assert all(one["value"] < other["value"] for one, other in pairwise(steps[1:]))


@pytest.mark.parametrize("panel", [p for p in PANELS if p[1]["type"] == "timeseries"], ids=named)
def test_every_line_has_a_color_and_dash_of_its_own(panel: tuple[str, Json]) -> None:
    looks = [
        tuple(json.dumps(p["value"], sort_keys=True) for p in override["properties"])
        for override in panel[1]["fieldConfig"]["overrides"]
    ]
    assert looks
    assert len(set(looks)) == len(looks)


def test_every_measure_and_dimension_has_words() -> None:
    assert set(MEASURES) == set(measures.MEASURES)
    [variable] = [
        v for v in ALL["vigil-subgroups"]["templating"]["list"] if v["name"] == "dimension"
    ]
    assert [option["value"] for option in variable["options"]] == list(GROUP_DIMENSIONS)


def test_every_variable_that_is_used_is_there_and_the_other_way_round() -> None:
    for uid, board in ALL.items():
        there = {v["name"] for v in board["templating"]["list"]}
        text = json.dumps(board)
        used = set(re.findall(r"\$\{(\w+)(?::\w+)?\}", text)) - {"__field", "__value"}
        used |= {name for name in re.findall(r"\$(\w+)", text) if not name.startswith("__")}
        assert used | {"ledger", "metrics"} == there, uid


def test_people_choose_unit_model_and_window_where_they_mean_something() -> None:
    names = {uid: {v["name"] for v in b["templating"]["list"]} for uid, b in ALL.items()}
    assert {uid for uid in names if "unit" in names[uid]} == {
        "vigil-ward-now", "vigil-model-health", "vigil-alerts-and-answers",
    }  # fmt: skip
    assert {uid for uid in names if "window" in names[uid]} == {
        "vigil-model-health", "vigil-subgroups", "vigil-alerts-and-answers",
    }  # fmt: skip
    assert {uid for uid in names if "model" in names[uid]} == {"vigil-ward-now", "vigil-pipeline"}


@pytest.mark.parametrize("asked", LEDGER, ids=str)
def test_a_choice_of_models_reaches_every_question_it_could_be_thought_to_reach(
    asked: boards.Asked,
) -> None:
    """Measurements are of all models that were shown together: they know no model."""
    chosen = {v["name"] for v in ALL[asked.board]["templating"]["list"]}
    assert "model" not in chosen or "FROM measurements" not in asked.text


@pytest.mark.parametrize("uid", ALL)
def test_grafanas_own_models_know_every_field_of_a_board(uid: str) -> None:
    plugins.register_default_plugins()
    parsed = Dashboard.from_json(ALL[uid])
    again = json.loads(JSONEncoder(sort_keys=True).encode(parsed))
    # What a plugin's annotation asks is the plugin's own; an id of null is as good as none.
    lost = [path for path in differences(ALL[uid], again) if "/target/" not in path]
    assert lost == ["/id"]


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where something of the first is missing or different in the second."""
    if isinstance(one, dict) and isinstance(other, dict):
        lost = [f"{path}/{key}" for key in one if key not in other]
        common = [key for key in one if key in other]
        return lost + [d for k in common for d in differences(one[k], other[k], f"{path}/{k}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}/{i}")]
    return [] if one == other else [path]


def test_build_writes_elsewhere_what_is_committed_here(tmp_path: Path) -> None:
    folder = tmp_path / "boards"
    done = CliRunner().invoke(app, ["build", "--to", str(folder), "--json"])
    assert done.exit_code == 0
    assert {f["action"] for f in json.loads(done.stdout)["files"]} == {"create"}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files()
    assert CliRunner().invoke(app, ["diff", "--to", str(folder)]).exit_code == 0


def test_build_changes_no_file_that_is_there_unless_it_was_told_to(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "vigil-ledger.json").write_text("{}")
    (tmp_path / "vigil-gone.json").write_text("{}")
    (tmp_path / "of-the-site.json").write_text("{}")
    told = CliRunner().invoke(app, ["diff", "--to", str(tmp_path), "--json"])
    assert told.exit_code == 1
    assert json.loads(told.stdout)["files"] == [
        {"file": "vigil-ledger.json", "action": "change"},
        {"file": "vigil-gone.json", "action": "remove"},
    ]
    refused = CliRunner().invoke(app, ["build", "--to", str(tmp_path)])
    assert "nobody can be asked" in str(refused.exception)
    assert (tmp_path / "vigil-ledger.json").read_text() == "{}"
    assert CliRunner().invoke(app, ["build", "--to", str(tmp_path), "--yes"]).exit_code == 0
    assert list(differing(tmp_path)) == []
    assert (tmp_path / "of-the-site.json").exists()
