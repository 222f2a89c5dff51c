"""What holds for every command, the README and every package that is installed to run."""

import math
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.metadata import metadata as metadata_of
from typing import Any

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.cli.main import app
from services.core import metrics
from services.core.baseline import VITAL_FEATURES
from services.core.errors import Reason
from services.core.events import Cause
from services.core.measures import MEASURES
from services.core.notices import MATTERS
from services.local.home import REPO
from services.runtime.topics.files import read_topics

REPORTS_NOTHING = {"up", "down", "logs"}
"""They talk to people alone."""
EXTRAS = ("gateway", "ingest", "scoring", "audit", "monitoring", "report")
"""What the image of the services has."""
ACCEPTED = re.compile(
    r"Apache|BSD|MIT|ISC|PSF|Python Software Foundation|MPL|Mozilla|HPND|Unlicense|Zlib|0BSD",
    re.IGNORECASE,
)
REFUSED = re.compile(r"\b[AL]?GPL|GNU|Business Source|BUSL|Elastic License|SSPL", re.IGNORECASE)
README = (REPO / "README.md").read_text()


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    if not hasattr(command, "list_commands"):
        yield " ".join(path), {option for each in command.params for option in each.opts}
        return
    for name in command.list_commands(None):
        yield from leaves(command.get_command(None, name), (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - REPORTS_NOTHING))
def test_every_command_that_reports_gives_json(name: str) -> None:
    assert "--json" in COMMANDS[name]


def test_every_json_object_names_its_schema() -> None:
    sources = "".join(path.read_text() for path in (REPO / "services" / "cli").rglob("*.py"))
    named = re.findall(r'f?"vigil\.[a-z_.{}]+/1"', sources)
    assert len(named) >= len({name.split()[0] for name in COMMANDS}) - len(REPORTS_NOTHING) - 2


def test_every_command_that_the_readme_names_exists() -> None:
    known = {" ".join(name.split()[:n]) for name in COMMANDS for n in (1, 2, 3)}
    said = re.findall(r"(?:\.venv/bin/|`)vigil ([a-z]+(?: [a-z]+)*)", README)
    assert said
    for words in said:
        group = [name for name in COMMANDS if name.startswith(words.split()[0])]
        assert group, words
        deep = any(" " in name for name in group)
        assert not deep or " ".join(words.split()[:2]) in known | {words.split()[0]}, words


def test_every_file_that_the_readme_names_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (REPO / link).exists()] == []


def needed() -> Iterator[str]:
    """Name every package that a service needs at run time, whatever needs it."""
    waiting = [("vigil", extra) for extra in ("", *EXTRAS)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        yield name
        try:
            wanted = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # for another system or Python
        for line in map(Requirement, wanted):
            if line.marker and not line.marker.evaluate({"extra": extra}):
                continue
            for each in ("", *line.extras):
                place = (canonicalize_name(line.name), each)
                if place not in seen:
                    seen.add(place)
                    waiting.append(place)


def license_of(name: str) -> str:
    told = metadata_of(name)
    fields = ("License-Expression", "License")
    short = [told[field].partition("\n")[0] for field in fields if field in told]
    classes = told.get_all("Classifier") or []
    return "; ".join([*short, *(c.rpartition(" :: ")[2] for c in classes if "License" in c)])


@pytest.mark.parametrize("name", sorted(set(needed()) - {"vigil"}))
def test_what_runs_beside_us_has_a_license_that_goes_with_ours(name: str) -> None:
    try:
        said = license_of(name)
    except PackageNotFoundError:
        pytest.skip(reason=f"{name} is not needed on this system")
    assert ACCEPTED.search(said), said
    assert not REFUSED.search(said), said


def test_no_service_shows_more_than_five_thousand_series_at_twenty_wards() -> None:
    """Counted as if one service had every metric with all that its labels can be."""
    wards, groups, topics = 20, 20 + 30, len(read_topics(REPO / "schemas"))
    values = {"service": 1, "topic": topics, "partition": 12, "unit": wards + 1, "model": 1}
    values |= {"version": 3, "outcome": 8, "reason": max(len(Cause), len(MEASURES))}
    drifting = len(VITAL_FEATURES) * (1 + wards) + (len(MEASURES) - 1) * (1 + groups)
    sources = 20
    of_sources = len(MATTERS) * sources
    shown = {"open_signals": 2 * drifting + of_sources, "dead_letters_total": len(Reason)}
    for kind in (metrics.COUNTERS, metrics.GAUGES, metrics.HISTOGRAMS):
        for name, metric in kind.items():
            if name not in shown:
                each = len(metric.buckets) + 3 if metric.buckets else 1
                shown[name] = each * math.prod(values[label] for label in metric.labels)
    assert sum(shown.values()) <= 5000, shown


def test_no_label_grows_with_patients() -> None:
    assert not {"patient", "encounter", "pseudonym", "stay", "alert"} & set(metrics.LABELS)
