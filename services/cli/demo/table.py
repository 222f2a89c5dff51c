"""The demo's account as a table for people."""

from collections.abc import Iterator, Mapping
from typing import Final

from rich.console import Console
from rich.table import Table

from services.cli.demo import findings
from services.cli.demo.account import Course

FATES: Final = {
    "vitals": "became vitals",
    "tick": "told the time (ticks)",
    "out_of_scope": "out of scope",
    "duplicate": "duplicate",
    "dead": "dead-lettered",
}
DISPOSITIONS: Final = {
    "scored": "scored",
    "abstained": "abstained: too little to score",
    "state_only": "kept for later scores: ticks, people, stays",
    "duplicate": "duplicate",
    "conflict": "conflict",
}
STEPS: Final = {name: name for name in ("raised", "escalated", "cleared", "withdrawn")}
PAGE: Final = "What leadership would read of it: {report}"
NEXT: Final = """\
What to try next
  export VIGIL_HOME={home:<27} what you just saw, kept until the next demo
  .venv/bin/vigil up
  .venv/bin/vigil sql "SELECT step, cause, count() FROM alerts GROUP BY ALL"
  .venv/bin/vigil drift list                    what drifted, window by window
  .venv/bin/vigil dlq list                      what was refused, and why
  .venv/bin/vigil ledger verify                 prove the ledger again
  .venv/bin/vigil down
  docs/subscribe.md                             read alerts.v1 with twenty lines of your own"""
Row = tuple[str, str]


def show(course: Course, console: Console, home: str, report: str) -> None:
    """Print the account, where the page is, and what to try next with the data at home."""
    table = Table(title="What came in, and what became of it", show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    for section in sections(course):
        for name, value in section:
            table.add_row(name, value)
        table.add_section()
    console.print(table)
    told = (*([PAGE.format(report=report)] if report else []), NEXT.format(home=home))
    console.print("\n".join(told), highlight=False, markup=False, soft_wrap=True)


def sections(course: Course) -> Iterator[list[Row]]:
    """Give the rows, by section."""
    sent, counts = course.sent, course.counts
    yield [
        ("messages sent", f"{sent['sent']:,}"),
        ("  accepted: Kafka holds them", f"{sent['accepted']:,}"),
        ("  refused at the door", f"{sum(sent['refused'].values()):,}"),
    ]
    yield [
        ("entries in them, by receipt", _sum(counts["entries"])),
        *_named(FATES, counts["entries"]),
        *((f"    {reason}", f"{n:,}") for reason, n in counts["dead_letters"].items()),
    ]
    yield [
        ("events of vitals.v1", _sum(counts["predictions"])),
        *_named(DISPOSITIONS, counts["predictions"]),
    ]
    yield list(_alerts(course))
    if course.watching:
        yield list(findings.signals(course.watching))
        yield list(findings.labels(course.watching))
    yield list(_proved(course))


def _alerts(course: Course) -> Iterator[Row]:
    yield "steps of alerts", _sum(course.counts["alerts"])
    yield from _named(STEPS, course.counts["alerts"])
    latency = course.latency_ms
    if latency:
        told = f"{latency['p50']:,.0f} / {latency['p99']:,.0f} ms"
        yield "accepted → alert at a subscriber, p50 / p99", told


def _proved(course: Course) -> Iterator[Row]:
    chains = course.verify["chains"]
    sound = sum(chain["sound"] for chain in chains)
    yield "ledger records", f"{int(course.verify['records']):,}"
    yield "hash chains verified", f"{sound} of {len(chains)}"
    yield "findings in the ledger", _hopefully_none(course.verify["findings_total"])
    yield "offsets unexplained", _hopefully_none(course.reconcile["unexplained_total"])


def _named(names: Mapping[str, str], counts: Mapping[str, int]) -> Iterator[Row]:
    """Give each count under its name; what has no name appears under its own."""
    for key in (*names, *sorted(counts.keys() - names.keys())):
        yield f"  {names.get(key, key)}", f"{counts.get(key, 0):,}"


def _sum(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values()):,}"


def _hopefully_none(count: int) -> str:
    return f"{count:,}" if count else "none"
