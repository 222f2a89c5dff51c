"""The page: material into sections, sections into one HTML file that needs nothing else."""

import base64
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup

from services.cli.moment import shown
from services.cli.report import numbers, performance, watching
from services.cli.report.drawing import drawable, svg
from services.cli.report.material import Material
from services.cli.report.view import Drawing, Page
from services.core.errors import CommandError
from services.core.faults import Fault

LARGEST: Final = 2 << 20
"""Bytes of a page; mail and records systems take it."""
TITLE: Final = "What the model did, and what to decide"
_FOLDER: Final = files("services.cli.report")


def view(material: Material) -> Page:
    """Put material into sections."""
    period = f"{shown(material.period.start)} to {shown(material.period.end)}"
    makers = (
        numbers.in_short,
        numbers.next_steps,
        numbers.at_work,
        performance.alerts,
        performance.performance,
        watching.groups,
        watching.drift,
        watching.changes,
    )
    return Page(TITLE, period, [make(material) for make in makers])


def render(page: Page) -> bytes:
    """Write a page as HTML; the same page gives the same bytes.

    Raises:
        CommandError: it is larger than anybody could send.
    """
    environment = Environment(
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(source=_source, drawable=drawable)
    template = environment.from_string(_text("page.html.j2"))
    written = template.render(page=page, style=Markup(_text("page.css"))).encode()  # noqa: S704 - ours
    if len(written) > LARGEST:
        raise CommandError(
            f"the report is larger than {LARGEST >> 20} MB",
            "ask for a shorter period",
            Fault.TOO_LARGE,
        )
    return written


def content(page: Page) -> dict[str, Any]:
    """Give a page as plain values, without its drawings."""
    return {
        "title": page.title,
        "period": page.period,
        "sections": [
            {
                "name": section.name,
                "title": section.title,
                "text": section.text,
                "decide": [step._asdict() for step in section.steps],
                "tables": [
                    {
                        "caption": figure.table.caption,
                        "head": figure.table.head,
                        "rows": [[cell.text for cell in row] for row in figure.table.rows],
                    }
                    for figure in section.figures
                ],
            }
            for section in page.sections
        ],
    }


def _source(drawing: Drawing) -> str:
    # As an image a drawing keeps its names and styles to itself, and no script in it would run.
    return f"data:image/svg+xml;base64,{base64.b64encode(svg(drawing)).decode()}"


def _text(name: str) -> str:
    return (_FOLDER / name).read_text()
