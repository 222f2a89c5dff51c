"""The example of Alertmanager: who is called for which alert, and with which words."""

import re
import shutil
import subprocess

import pytest
import yaml

from services.local.home import REPO

FILE = REPO / "infra" / "alertmanager" / "alertmanager.example.yml"
TEXT = FILE.read_text()
CALLED = [
    ({"audience": "clinical", "severity": "critical"}, "clinical-lead-and-on-call"),
    ({"audience": "clinical", "severity": "warning"}, "clinical-lead"),
    ({"audience": "technical", "severity": "critical"}, "on-call-engineer"),
    ({"audience": "technical", "severity": "warning"}, "on-call-engineer"),
    ({}, "on-call-engineer"),
]


@pytest.fixture(scope="module")
def amtool() -> str:
    found = shutil.which("amtool")
    if not found:
        pytest.skip(reason="there is no amtool: apt-get install prometheus-alertmanager")
    return found


def test_amtool_takes_the_example(amtool: str) -> None:
    subprocess.run([amtool, "check-config", FILE], check=True, capture_output=True)


@pytest.mark.parametrize(("labels", "receiver"), CALLED)
def test_what_is_clinical_reaches_the_clinical_lead_and_the_rest_the_engineer(
    amtool: str, labels: dict[str, str], receiver: str
) -> None:
    asked = [f"{name}={value}" for name, value in labels.items()]
    command = [amtool, "config", "routes", "test", f"--config.file={FILE}", *asked]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == receiver


def test_texts_are_those_of_the_rules_and_carry_no_label_of_their_own() -> None:
    shown = set(re.findall(r"\{\{ (.+?) \}\}", TEXT))
    allowed = {"range .Alerts", "end", ".Status", ".CommonAnnotations.summary"}
    notes = {f".Annotations.{name}" for name in ("summary", "description")}
    notes |= {f".Annotations.{name}_url" for name in ("runbook", "dashboard")}
    assert shown == allowed | notes


def test_every_secret_is_a_file() -> None:
    assert not re.search(r"(?:password|token|secret|credentials|key): ", TEXT)
    assert re.findall(r"_file: (\S+?)}?$", TEXT, re.MULTILINE) or "credentials_file" in TEXT


def test_an_inhibition_names_alerts_that_exist() -> None:
    rules = (REPO / "infra/prometheus/rules/alerts.yml").read_text()
    alerts = set(re.findall(r"- alert: (\w+)", rules))
    named = re.findall(r"Vigil[A-Z]\w+", str(yaml.safe_load(TEXT)["inhibit_rules"]))
    assert named
    assert set(named) <= alerts
