"""`vigil recompute`: the metrics of a period once more, from the records in the ledger."""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli.moment import moment, shown
from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.core.events import Measurement
    from services.core.windows import Window
    from services.monitoring.past import Past
    from services.monitoring.recompute import Recompute, Report
    from services.runtime.clickhouse import ClickHouse

EVERY_S: Final = 2.0
SCHEMA: Final = "vigil.recompute/1"
REMEDY: Final = "run the version of Vigil that wrote it, or a later one"
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def recompute(
    *,
    since: Annotated[
        str, typer.Option("--from", help="Day or time with zone; default: where the ledger begins")
    ] = "",
    until: Annotated[
        str, typer.Option("--to", help="The same, not in it; default: how far time has come.")
    ] = "",
    whole: Annotated[
        bool, typer.Option("--whole", help="One window over the whole period; nothing compared.")
    ] = False,
    json: Json = False,
) -> None:
    """Compute the metrics of every closed window anew; exit code 1 if one differs from live."""
    from services.cli.ledger import migrated
    from services.core.errors import Stop
    from services.monitoring.baselines import baselines_of
    from services.monitoring.past import Past
    from services.monitoring.recompute import Recompute
    from services.runtime.codec import Codec

    past, codec = Past(migrated()), Codec(_schemas())
    period = _period(past, since, until)
    batch = Recompute(past, codec, _progress())
    try:
        baselines = baselines_of(past.baselines(), codec)
        if whole:
            _whole(batch, period, baselines.at, json=json)
        else:
            _compare(batch, period, baselines.at, json=json)
    except Stop as error:
        raise CommandError(str(error), REMEDY, Fault.LEDGER_UNREADABLE) from None


def _compare(batch: "Recompute", period: "Window", baseline_at: Any, *, json: bool) -> None:
    from services.monitoring.families import families

    report = batch.compare(families(baseline_at), period)
    ok = bool(report.windows_compared) and not report.differences_total
    if json:
        import msgspec

        _print({"schema": SCHEMA, "ok": ok} | msgspec.to_builtins(report))
    else:
        _show(report)
    if not ok:
        raise typer.Exit(ExitCode.FINDING)


def measured(store: "ClickHouse", since: str, until: str) -> tuple["Window", list["Measurement"]]:
    """Give a period, and its measurements as one window.

    Args:
        store: with the ledger.
        since: as `--from`.
        until: as `--to`.

    Raises:
        CommandError: the ledger holds no such period, or what this version cannot read.
    """
    from services.core.errors import Stop
    from services.monitoring.baselines import baselines_of
    from services.monitoring.past import Past
    from services.monitoring.recompute import Recompute
    from services.runtime.codec import Codec

    past, codec = Past(store), Codec(_schemas())
    period = _period(past, since, until)
    try:
        baselines = baselines_of(past.baselines(), codec)
        return period, _one_window(Recompute(past, codec, _progress()), period, baselines.at)
    except Stop as error:
        raise CommandError(str(error), REMEDY, Fault.LEDGER_UNREADABLE) from None


def _one_window(batch: "Recompute", period: "Window", baseline_at: Any) -> list["Measurement"]:
    from services.monitoring.families import families

    found = families(baseline_at, length=period.length, origin=period.start)
    return batch.whole(found, period)


def _whole(batch: "Recompute", period: "Window", baseline_at: Any, *, json: bool) -> None:
    statements = _one_window(batch, period, baseline_at)
    if json:
        import msgspec

        body = {"start": period.start, "end": period.end, "records": batch.records}
        measurements = {"measurements": msgspec.to_builtins(statements)}
        _print({"schema": SCHEMA, "ok": bool(statements)} | body | measurements)
    else:
        _show_whole(period, statements)
    if not statements:
        raise typer.Exit(ExitCode.FINDING)


def _period(past: "Past", since: str, until: str) -> "Window":
    from services.core.windows import DAY, HOUR, Window, window_of
    from services.monitoring.outputs import PREDICTIONS

    extent = past.extent(PREDICTIONS)
    if extent is None and not (since and until):
        raise CommandError(
            "the ledger holds no predictions yet",
            "wait until the services have scored something, or name a period",
            Fault.LEDGER_EMPTY,
        )
    first, last = extent or Window(0, 0)
    period = Window(
        moment(since) if since else window_of(first, DAY).start,
        moment(until) if until else window_of(last, HOUR).start,
    )
    if period.length <= 0 or period.length % HOUR:
        raise typer.BadParameter("the period must be one hour or more, in whole hours")
    return period


def _schemas() -> Any:
    from services.audit.settings import AuditSettings

    return AuditSettings().schemas


def _progress() -> "Callable[[int, int], None]":
    import time

    began = last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < EVERY_S:
            return
        last = now
        left, rate = (total - done) * (now - began) / max(done, 1), done / (now - began)
        print(f"{done:,} of {total:,} records, {rate:,.0f}/s, {left:.0f} s left", file=sys.stderr)

    return tell


def _show(report: "Report") -> None:
    for one in report.differences:
        about = " ".join(filter(None, (one.metric, one.feature, one.cohort, one.unit_of_analysis)))
        said = f"live {_said(one.live)}, recomputed {_said(one.recomputed)}"
        print(f"FOUND {shown(one.start)}  {about}: {one.field} {said}")
    if report.differences_total > len(report.differences):
        print(f"and {report.differences_total - len(report.differences):,} more")
    print(f"{'period':<24}{shown(report.start)} to {shown(report.end)}")
    for name in ("records", "refused", "windows_compared", "windows_open"):
        print(f"{name.replace('_', ' '):<24}{getattr(report, name):>12,}")
    print(f"{'statements live':<24}{report.statements_live:>12,}")
    print(f"{'statements recomputed':<24}{report.statements_recomputed:>12,}")
    print(f"{'differences':<24}{report.differences_total:>12,}")
    if not report.windows_compared:
        print("no window of this period is closed: nothing was compared")


def _show_whole(period: "Window", statements: "Sequence[Measurement]") -> None:
    print(f"{shown(period.start)} to {shown(period.end)}, one window")
    head = ("metric", "feature", "cohort", "unit", "value", "low", "high", "patients", "state")
    rows = [_row(statement) for statement in statements]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip())
    if not statements:
        print("not every partition has come to the end of this period: nothing is known yet")


def _row(s: "Measurement") -> tuple[str, ...]:
    state = f"{s.state} ({s.why})" if s.why else str(s.state)
    numbers = (_said(number) for number in (s.value, s.low, s.high, s.patients))
    return (s.metric, s.feature, s.cohort, s.unit_of_analysis, *numbers, state)


def _said(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _print(body: dict[str, Any]) -> None:
    import msgspec

    print(msgspec.json.encode(body).decode())
