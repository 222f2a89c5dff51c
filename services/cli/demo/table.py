"""The demo's account as a table for people."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from services.cli.demo.run import Course

NEXT = """What to try next
  vigil up                        the same stack, to stay (data in .vigil)
  vigil replay FILE               recorded patients: PhysioNet 2019 parquet or PSV, FHIR files
  vigil sql "SELECT * FROM alerts LIMIT 5"     ask the ledger (while a stack is up)
  vigil ledger verify             prove it again
  docs/subscribe.md               read alerts.v1 with twenty lines of your own"""


def show(course: Course, console: Console) -> None:
    """Print the account, and what to try next."""
    table = Table(title="What came in, and what became of it", show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    for section in (_sent(course), _scored(course), _proved(course)):
        for name, value in section:
            table.add_row(name, value)
        table.add_section()
    console.print(table)
    console.print(NEXT, highlight=False)


def _sent(course: Course) -> Iterator[tuple[str, str]]:
    sent = course.sent
    yield "messages sent", f"{sent['sent']:,}"
    yield "messages accepted (held by Kafka)", f"{sent['accepted']:,}"
    refused = sum(sent["refused"].values())
    yield "messages refused at the door (no JSON)", f"{refused:,}"
    yield "entries in them", f"{sent['entries']:,}"
    yield from _counts("receipts: entry became", course.counts["entries"])
    yield from _counts("dead letters", course.counts["dead_letters"])


def _scored(course: Course) -> Iterator[tuple[str, str]]:
    yield from _counts("vitals offsets", course.counts["predictions"])
    yield from _counts("alerts", course.counts["alerts"])
    latency = course.latency_ms
    if latency:
        yield "accepted → alert seen outside, p50 / p99", f"{latency['p50']} / {latency['p99']} ms"


def _proved(course: Course) -> Iterator[tuple[str, str]]:
    yield "ledger records", f"{int(course.verify['records']):,}"
    yield "hash chains verified", "yes" if course.verified else "NO"
    unexplained = int(course.reconcile["unexplained_total"])
    yield "offsets unexplained", "none" if course.reconciled else f"{unexplained:,}"
    first = course.milestones_s.get("first score")
    if first is not None:
        yield "start to first score", f"{first} s"


def _counts(name: str, counts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in counts.items():
        yield f"{name} {key}", f"{value:,}"
