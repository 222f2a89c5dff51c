"""docs/roles: a page for each role, and nothing on it that does not exist."""

import re
import shlex
from typing import Any

import pytest
import typer.main

from dashboards.build import files
from dashboards.names import BOARDS
from services.cli.main import app
from services.core.events import Verdict
from services.core.feedback import REASONS
from services.local.home import REPO

FOLDER = REPO / "docs" / "roles"
PAGES = {path.stem: path.read_text() for path in FOLDER.glob("*.md")}
ROLES = {"clinician", "informaticist", "on-call", "auditor", "data-scientist"}
HEADINGS = ["Look", "What the numbers mean, and do not", "Decide", "Tell"]
LONGEST_LINES = 60
"""What prints on one page."""
SCHEMAS = "".join(path.read_text() for path in (REPO / "infra" / "clickhouse").glob("0*.sql"))
TABLES = set(re.findall(r"CREATE (?:TABLE|VIEW) IF NOT EXISTS (\w+)", SCHEMAS))


def commands(page: str) -> list[list[str]]:
    """Every command line of `vigil` on a page, in its words."""
    blocks = re.findall(r"^ {4,}(vigil (?:.*\\\n)*.*)$", page, re.MULTILINE)
    spans = re.findall(r"`(vigil [^`]+)`", page)
    return [shlex.split(line.replace("\\\n", " ").partition(" > ")[0]) for line in blocks + spans]


def stray(words: list[str]) -> list[str]:
    """What of a command line the command does not know."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while rest and hasattr(command, "get_command"):
        found = command.get_command(None, rest[0])
        if found is None:
            return rest
        command, rest = found, rest[1:]
    known = {option for each in command.params for option in each.opts}
    return [word for word in rest if word.startswith("-") and word not in known]


def test_every_role_has_its_page() -> None:
    assert set(PAGES) == ROLES


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_page_is_one_page_that_tells_where_to_look_what_it_means_and_whom_to_tell(
    name: str,
) -> None:
    assert re.findall(r"^## (.+)$", PAGES[name], re.MULTILINE) == HEADINGS
    assert PAGES[name].startswith("# A Monday with Vigil: ")
    assert len(PAGES[name].splitlines()) <= LONGEST_LINES


@pytest.mark.parametrize("name", sorted(ROLES))
def test_every_command_on_a_page_exists_with_its_options(name: str) -> None:
    lines = commands(PAGES[name])
    assert lines
    assert {" ".join(words): left for words in lines if (left := stray(words))} == {}


def test_a_command_that_is_not_there_is_found() -> None:
    assert stray(["vigil", "drift", "lost"])
    assert stray(["vigil", "drift", "list", "--lost"])
    assert not stray(["vigil", "drift", "baseline", "use", "site.json", "--reason", "x"])


@pytest.mark.parametrize("name", sorted(ROLES))
def test_every_link_and_every_file_on_a_page_exists(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGES[name])
    paths = re.findall(r"`((?:docs|schemas|infra|models)/[\w./-]+)`", PAGES[name])
    assert links
    missing = [link for link in links if not (FOLDER / link).exists()]
    assert missing + [path for path in paths if not (REPO / path).exists()] == []


@pytest.mark.parametrize("name", sorted(ROLES))
def test_every_board_and_panel_on_a_page_exists(name: str) -> None:
    boards = " ".join(content.decode() for content in files().values())
    # What begins a point of a list is the case that it speaks of.
    places = re.findall(r"(?<!- )(?<![*\w])\*([A-Z][^*]+?)\*(?![*\w])", PAGES[name])
    titles = [" ".join(place.split()) for place in places]
    assert [
        t for t in titles if t not in BOARDS.values() and f'"title": "{t}"' not in boards
    ] == []


@pytest.mark.parametrize("name", sorted(ROLES))
def test_every_table_that_a_page_asks_exists(name: str) -> None:
    asked = set(re.findall(r"\bFROM (\w+)", PAGES[name]))
    assert asked <= TABLES


def test_words_of_answers_on_the_clinicians_page_are_those_of_the_gateway() -> None:
    words = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", PAGES["clinician"]))
    assert words
    assert words <= set(REASONS)
    assert all(verdict in PAGES["clinician"] for verdict in Verdict)
