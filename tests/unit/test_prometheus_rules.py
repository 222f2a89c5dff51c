"""Prometheus' rules: what they name exists; each fires in its case and is silent beside it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.core import metrics as spec
from services.local.home import REPO
from services.local.roster import SERVICES
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics

FOLDER = REPO / "infra" / "prometheus"
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
STANDARD = {"up", "vigil_process_start_time_seconds"}
BOARDS = {
    "vigil-ward-now",
    "vigil-model-health",
    "vigil-subgroups",
    "vigil-alerts-and-answers",
    "vigil-pipeline",
    "vigil-ledger",
}
NAME = re.compile(r"\b(?:[a-z_]+:)?vigil_\w+(?::\w+)?|\bup\b")


def rules() -> Iterator[dict[str, Any]]:
    for path in sorted((FOLDER / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


RECORDED = [rule for rule in rules() if "record" in rule]
ALERTS = [rule for rule in rules() if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})


def name_of(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


def published() -> set[str]:
    """Every series that a service can show."""
    histograms = (f"{n}{end}" for n in spec.HISTOGRAMS for end in ("_bucket", "_count", "_sum"))
    names = (*spec.COUNTERS, *spec.GAUGES, *histograms)
    return {spec.PREFIX + name for name in names} | STANDARD


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        pytest.skip(reason="there is no promtool: apt-get install prometheus")
    return found


def series_of(expression: str) -> set[str]:
    """Name what an expression asks for; labels and their values are none."""
    return set(NAME.findall(re.sub(r"\{[^}]*\}|\((?:\w+, )*\w+\)(?= \()", "", expression)))


@pytest.mark.parametrize("rule", [*RECORDED, *ALERTS], ids=name_of)
def test_every_series_of_a_rule_is_published_or_recorded(rule: dict[str, Any]) -> None:
    asked = series_of(rule["expr"])
    assert asked
    assert asked <= published() | {each["record"] for each in RECORDED}


@pytest.mark.parametrize("rule", [*RECORDED, *ALERTS], ids=name_of)
def test_labels_of_a_rule_are_of_the_allow_list_and_never_a_patients(rule: dict[str, Any]) -> None:
    grouped = " ".join(re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"]))
    matched = " ".join(re.findall(r'(\w+) ?(?:=|!=|=~|!~) ?"', rule["expr"]))
    used = set(re.findall(r"\w+", f"{grouped} {matched}"))
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations", ""))))
    assert used | shown <= {*spec.LABELS, "job", "instance", "le"}


def test_recording_rules_are_named_level_metric_operation_and_stand_once() -> None:
    names = [rule["record"] for rule in RECORDED]
    assert all(re.fullmatch(r"[a-z_]+:vigil_\w+:[a-z0-9_]+", name) for name in names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda r: r["alert"])
def test_an_alert_says_how_bad_for_whom_since_when_and_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Vigil([A-Z][a-z]+)+", rule["alert"])
    assert set(rule["labels"]) == {"severity", "audience"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["labels"]["audience"] in {"clinical", "technical"}
    assert {"for", "keep_firing_for"} <= set(rule)
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert re.fullmatch(r"[A-Z].+\.", told["summary"])
    assert told["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    assert told["dashboard_url"].rpartition("/d/")[2] in BOARDS


def test_alerts_on_services_name_every_service_and_no_other() -> None:
    [down] = [rule for rule in ALERTS if rule["alert"] == "VigilServiceDown"]
    assert set(re.findall(r"\w+", down["expr"].partition('"')[2].partition('"')[0])) == {
        program.name for program in SERVICES
    }


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    fires, silent = set(), set()
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for asked in case["alert_rule_test"]:
                for expected in asked["exp_alerts"]:
                    fires.add((asked["alertname"], expected["exp_labels"]["severity"]))
                if not asked["exp_alerts"]:
                    silent.add(asked["alertname"])
    assert fires == {(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS}
    assert silent == set(NAMES)


@pytest.mark.parametrize("path", TESTS, ids=lambda p: p.stem)
def test_promtool_sees_each_alert_fire_and_be_silent(promtool: str, path: Path) -> None:
    done = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["prometheus.yml", "local.yml"])
def test_promtool_takes_the_configuration_and_its_rules(promtool: str, name: str) -> None:
    # Its secret is where docker-compose.yml mounts it, so only the form can be checked here.
    command = [promtool, "check", "config", "--syntax-only", str(FOLDER / name)]
    subprocess.run(command, check=True, capture_output=True)
    files = sorted((FOLDER / "rules").glob("*.yml"))
    subprocess.run([promtool, "check", "rules", *files], check=True, capture_output=True)


def test_promtool_finds_nothing_to_say_about_any_metric(promtool: str) -> None:
    metrics = Metrics(Build(service="trial", version="1", revision="a", python="3"))
    for counter, of in spec.COUNTERS.items():
        metrics.counter(counter, **_labels(of)).inc()
    for gauge, of in spec.GAUGES.items():
        metrics.gauge(gauge, **_labels(of)).set(1)
    for histogram, of in spec.HISTOGRAMS.items():
        metrics.histogram(histogram, **_labels(of)).observe(1)
    command = [promtool, "check", "metrics"]
    done = subprocess.run(command, input=metrics.exposition(), capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    shown = set(re.findall(r"^(\w+)", metrics.exposition().decode(), re.MULTILINE))
    assert {name for rule in RECORDED for name in series_of(rule["expr"])} - {"up"} <= shown | {
        rule["record"] for rule in RECORDED
    }


def _labels(metric: spec.Metric) -> dict[str, str]:
    return {label: "x" for label in metric.labels if label != "service"}
