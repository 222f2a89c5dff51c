"""docs/runbooks: a page for each alert and kind of signal, and nothing on it that is not so."""

import re
from itertools import chain
from typing import Any

import pytest
import yaml

from services.cli.main import COMMANDS
from services.core import metrics as spec
from services.core.measures import MEASURES
from services.local.home import REPO

FOLDER = REPO / "docs" / "runbooks"
PAGES = {path.stem: path.read_text() for path in FOLDER.glob("*.md")}
HEADINGS = [
    "What it means for patients",
    "How to check",
    "How to mend",
    "Whom to tell",
]


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((REPO / "infra/prometheus/rules" / name).read_text())["groups"]
    return list(chain.from_iterable(group["rules"] for group in groups))


ALERTS = {rule["alert"] for rule in rules("alerts.yml")}
SIGNALS = {measure.runbook for measure in MEASURES.values() if measure.runbook}


def test_every_alert_and_every_signal_has_a_page_and_every_page_one_of_them() -> None:
    assert set(PAGES) == ALERTS | SIGNALS


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_tells_what_it_means_how_to_check_how_to_mend_whom_to_tell(name: str) -> None:
    page = PAGES[name]
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == HEADINGS
    parts = re.split(r"^## .+$", page, flags=re.MULTILINE)
    assert all(len(part.split()) >= 8 for part in parts)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_command_metric_page_and_file_that_a_page_names_exists(name: str) -> None:
    page = PAGES[name]
    assert set(re.findall(r"`vigil ([a-z]+)", page)) <= set(COMMANDS)
    recorded = {rule["record"] for rule in rules("recording.yml")}
    named = set(re.findall(r"[a-z_]+:vigil_\w+:\w+|\bvigil_\w+", page))
    known = {spec.PREFIX + m for m in (*spec.COUNTERS, *spec.GAUGES, *spec.HISTOGRAMS)} | recorded
    roles = set(re.findall(r"\bvigil_\w+", (REPO / "infra/clickhouse/roles.sql").read_text()))
    assert {re.sub(r"_bucket$", "", each) for each in named} <= known | roles
    assert set(re.findall(r"\bVigil[A-Z]\w+", page)) <= ALERTS
    assert set(re.findall(r"\]\((\w+)\.md\)", page)) <= set(PAGES)
    for path in re.findall(r"`((?:docs|schemas|infra)/[\w./]+)`", page):
        assert (REPO / path).exists(), path


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_a_page_of_signals_names_the_measurements_that_open_them(name: str) -> None:
    asked = re.findall(r"metric (?:=|IN) \(?('[^)\"]+')", PAGES[name])
    named = set(re.findall(r"'(\w+)'", " ".join(asked))) | set(
        re.findall(r"^- `(\w+)`:", PAGES[name], re.MULTILINE)
    )
    assert named - {"ok", "alarm"} <= set(MEASURES)
    opened = {m for m, measure in MEASURES.items() if measure.runbook == name}
    assert opened <= named


def test_the_page_on_operations_lists_every_alert_with_whom_it_calls() -> None:
    page = (REPO / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| (`Vigil.+?) \| (technical|clinical) \|", page, re.MULTILINE)
    listed = {(name, who) for names, who in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {(rule["alert"], rule["labels"]["audience"]) for rule in rules("alerts.yml")}
