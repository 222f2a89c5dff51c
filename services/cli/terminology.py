"""`vigil terminology`: what the tables of codes and units make of a site's messages."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from services.cli.agreement import Account
    from services.core.terminology.book import Terminology

app = typer.Typer(help="Codes and units: check tables, try messages.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Site = Annotated[Path | None, typer.Option(help="Folder of the site's own rows.")]

COLUMNS: Final = (
    "source",
    "entries",
    "read",
    "out of scope",
    "refused",
    "values compared",
    "differ",
)


@app.command()
def check(*, site: Site = None, json: Json = False) -> None:
    """Read all tables as ingest would; a row that cannot be used is named with file and line."""
    import msgspec

    tables = _tables(site)
    if json:
        told = {"schema": "vigil.terminology.check/1", "version": tables.version}
        print(msgspec.json.encode(told).decode())
        return
    print(f"the tables can be used; their version is {tables.version}")


@app.command()
def read(
    path: Annotated[
        Path, typer.Argument(help="FHIR as .json or .ndjson; or a folder.", exists=True)
    ],
    *,
    site: Site = None,
    json: Json = False,
) -> None:
    """Say what becomes of example messages, and hold each value read against fhir.resources.

    Nothing is sent, and no value is shown. Ends with 1 if fhir.resources reads a value otherwise.
    """
    import msgspec

    from services.cli.agreement import accounts

    found = accounts(path, _tables(site), time.time_ns() // 1000)
    if json:
        told: dict[str, Any] = {"schema": "vigil.terminology.read/1", "sources": {}}
        for source, account in found.items():
            told["sources"][source] = described(account)
        print(msgspec.json.encode(told).decode())
    else:
        print("\n".join(table(found)))
        for place in (place for account in found.values() for place in account.differing):
            print(f"differs: {place}")
    if any(account.differing for account in found.values()):
        raise typer.Exit(1)


def described(account: "Account") -> dict[str, Any]:
    """Give one account in figures."""
    return {
        "entries": account.entries,
        **{fate: _of(account, fate) for fate in ("read", "out of scope", "refused")},
        "compared": account.compared,
        "differing": account.differing,
    }


def table(found: "dict[str, Account]") -> list[str]:
    """Give all accounts as a table in Markdown, one row per folder."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for source, account in found.items():
        cells = [source, str(account.entries)]
        cells += [_listed(account, fate) for fate in ("read", "out of scope", "refused")]
        cells += [str(account.compared), str(len(account.differing))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _of(account: "Account", fate: str) -> dict[str, int]:
    counts = {what: n for (which, what), n in account.fates.items() if which == fate}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _listed(account: "Account", fate: str) -> str:
    counts = _of(account, fate)
    parts = [f"{what} {n}" for what, n in counts.items()]
    return f"{sum(counts.values())}: {', '.join(parts)}" if parts else "0"


def _tables(site: Path | None) -> "Terminology":
    from services.ingest.settings import IngestSettings
    from services.ingest.tables import read_terminology

    settings = IngestSettings()
    return read_terminology(settings.schemas / "terminology", site or settings.site_terminology)
