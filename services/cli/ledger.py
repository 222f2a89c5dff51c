"""`vigil ledger`: make the store's tables, prove what is in it, account for every offset."""

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.consent import DryRun, Yes, ask
from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.audit.books import Report as Account
    from services.audit.verify import Report as Proof
    from services.runtime.clickhouse import ClickHouse

app = typer.Typer(help="The ledger: its tables, its proof, its accounts.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
EVERY_S = 2.0


@app.command()
def migrate(
    *,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Apply the files of infra/clickhouse that the store does not have yet."""
    from services.audit.migrate import apply, pending, read_migrations
    from services.cli.filling import fill_after

    store = open_store(create=not dry_run)
    missing = pending(store, read_migrations())
    if missing and not (yes or dry_run):
        look, go = "vigil ledger migrate --dry-run", "vigil ledger migrate --yes"
        lines = (f"to apply: {migration.name}" for migration in missing)
        ask(lines, "Change the store's tables?", look=look, go=go)
    if not dry_run:
        apply(store, missing, cluster=_cluster())
        fill_after(store, missing)
    done = "to apply" if dry_run else "applied"
    if json:
        found = {done.replace(" ", "_"): [m.name for m in missing]}
        _print({"schema": "vigil.ledger.migrate/1", **found})
        return
    for migration in missing:
        print(f"{done} {migration.name}")
    if not missing:
        print("the tables are as infra/clickhouse says")


@app.command()
def rebuild(
    *,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give records of the ledger the rows that a derived table lacks of them; changes no row."""
    from services.cli import filling

    store = migrated()
    found, got = filling.without(store), Counter[str]()
    if found and not (yes or dry_run):
        look, go = "vigil ledger rebuild --dry-run", "vigil ledger rebuild --yes"
        lines = filling.lines(found, got, dry_run=True)
        ask(lines, "Derive their rows from the ledger?", look=look, go=go)
    if found and not dry_run:
        got = filling.fill(store)
    if json:
        _print({"schema": "vigil.ledger.rebuild/1", "without": found, "rows": got})
        return
    for line in filling.lines(found, got, dry_run=dry_run):
        print(line)


@app.command()
def verify(*, json: Json = False) -> None:
    """Compute every hash and every derived row anew; exit code 1 if anything differs."""
    from services.audit.verify import Verifier
    from services.cli.filling import sources
    from services.runtime.codec import Codec

    decode = Codec(_settings().schemas).decode
    store, began = migrated(), time.monotonic()
    report = Verifier(store, sources(), decode, tell=_progress()).run()
    _note(store, report, time.monotonic() - began)
    if json:
        import msgspec

        body = {"schema": "vigil.ledger.verify/1", "ok": not report.findings_total}
        _print(body | msgspec.to_builtins(report))
    else:
        _show_proof(report)
    if report.findings_total:
        raise typer.Exit(ExitCode.FINDING)


@app.command()
def reconcile(
    *,
    patience: Annotated[
        float, typer.Option(help="Seconds that what is on its way has to arrive.", min=0)
    ] = 15.0,
    json: Json = False,
) -> None:
    """Account for every raw and vitals offset, in both directions; exit code 1 if one is left."""
    from services.audit.books import Books
    from services.audit.pipeline import sources_of
    from services.runtime.settings import KafkaSettings
    from services.runtime.topics.files import read_topics

    store, options = migrated(), KafkaSettings().client_options()
    sources = sources_of(options, read_topics(_settings().schemas))
    report = Books(options, store, sources).reconcile(patience)
    if json:
        import msgspec

        body = {"schema": "vigil.ledger.reconcile/1", "ok": not report.unexplained_total}
        _print(body | msgspec.to_builtins(report))
    else:
        _show_account(report)
    if report.unexplained_total:
        raise typer.Exit(ExitCode.FINDING)


def _settings() -> Any:
    from services.audit.settings import AuditSettings

    return AuditSettings()


def open_store(*, create: bool = False) -> "ClickHouse":
    """Connect as the settings say; with `create`, make the database first.

    Raises:
        CommandError: ClickHouse refuses the user or the database.
        Retry: nobody answers.
    """
    from services.audit.settings import StoreSettings
    from services.runtime.clickhouse import ClickHouse, Rejected

    settings = StoreSettings()
    address, _, database = settings.url.partition("://")[2].partition("/")
    user, password = settings.user, settings.password()
    try:
        if create and database:
            scheme = settings.url.partition("://")[0]
            root = ClickHouse(f"{scheme}://{address}", user=user, password=password)
            root.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
            root.close()
        return ClickHouse(settings.url, user=user, password=password, timeout_s=settings.timeout_s)
    except Rejected as error:
        raise CommandError(
            f"ClickHouse at {address.rpartition('@')[2]} refuses the connection"
            f" (code {error.code})",
            "check CLICKHOUSE_URL, and run `vigil ledger migrate` for a new database",
            Fault.STORE_REFUSES,
        ) from None


def _cluster() -> str:
    from services.audit.settings import StoreSettings

    return StoreSettings().cluster


def migrated() -> "ClickHouse":
    """Connect to a store that has all tables of this program.

    Raises:
        CommandError: tables are missing, or as `open_store` does.
        Retry: nobody answers.
    """
    from services.audit.migrate import pending, read_migrations

    store = open_store()
    if missing := pending(store, read_migrations()):
        raise CommandError(
            f"the ledger's tables are missing: {missing[0].name} is not applied",
            "run `vigil ledger migrate`",
            Fault.NOT_MIGRATED,
        )
    return store


def _note(store: "ClickHouse", report: "Proof", seconds: float) -> None:
    """Write down what was found, for boards and alerts; say so where this user may only read."""
    from importlib.metadata import version

    from services.audit.verdict import Noted, heads_digest, note
    from services.core.errors import Retry

    chains = [(c.topic, c.topic_id, c.partition, c.records, c.head) for c in report.chains]
    noted = Noted(
        seconds=round(seconds, 3),
        records=report.records,
        chains=len(chains),
        sound=sum(chain.sound for chain in report.chains),
        findings=report.findings_total,
        heads=heads_digest(chains),
        version=version("vigil"),
    )
    try:
        note(store, noted)
    except Retry as error:
        print(f"boards will not show this verification: {error}", file=sys.stderr)


def _progress() -> "Callable[[int, int], None]":
    began = last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < EVERY_S:
            return
        last = now
        rate = max(done, 1) / (now - began)
        told = f"proved {done:,} of {total:,} records, {rate:,.0f}/s"
        print(f"{told}, {(total - done) / rate:.0f} s left", file=sys.stderr)

    return tell


def _show_proof(report: "Proof") -> None:
    print(f"{'chain':<24}{'records':>10}  head")
    for chain in report.chains:
        name = f"{chain.topic}/{chain.partition}"
        mark = "" if chain.sound else "  NOT SOUND"
        print(f"{name:<24}{chain.records:>10,}  {chain.head[:16]}{mark}")
    derived = ", ".join(f"{name} {rows:,}" for name, rows in report.derived_rows.items())
    print(f"derived rows: {derived}")
    for finding in report.findings:
        where = f"{finding.topic}/{finding.partition} offset {finding.offset}"
        where += "" if finding.sequence is None else f" sequence {finding.sequence}"
        where += "" if finding.index is None else f" index {finding.index}"
        print(f"FOUND {finding.table} {where}: {finding.what}")
    _more(report.findings_total, len(report.findings))
    verdict = "not as it was written" if report.findings_total else "verified"
    print(f"{report.records:,} records: {verdict}")
    for gap in report.not_covered:
        print(f"not covered: {gap}")


def _show_account(report: "Account") -> None:
    print(f"{'raw records':<28}{report.raw_records:>12,}")
    for fate, count in report.raw_entries.items():
        print(f"  entries {fate:<18}{count:>12,}")
    print(f"{'vitals records':<28}{report.vitals_records:>12,}")
    for disposition, count in report.dispositions.items():
        print(f"  {disposition:<26}{count:>12,}")
    print(f"{'no longer in Kafka':<28}{report.ledger_only:>12,}")
    print(f"{'unexplained':<28}{report.unexplained_total:>12,}")
    for what, count in report.unexplained.items():
        print(f"  {what:<36}{count:>8,}")
    for one in report.first:
        entry = "" if one.entry is None else f" entry {one.entry}"
        print(f"FOUND {one.topic}/{one.partition} offset {one.offset}{entry}: {one.what}")
    _more(report.unexplained_total, len(report.first))


def _more(total: int, shown: int) -> None:
    if total > shown:
        print(f"and {total - shown:,} more")


def _print(body: dict[str, Any]) -> None:
    import msgspec

    print(msgspec.json.encode(body).decode())
