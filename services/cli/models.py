"""`vigil models`: which models score, and how people put others in their place."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli.changing import ApprovedBy, Asked, Log, Reason, RequestedBy, change_of
from services.cli.consent import DryRun, Yes, ask
from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault

if TYPE_CHECKING:
    from services.core.events import Change
    from services.core.lineup import Proposal


class Role(StrEnum):
    """The parts that a model can have."""

    CHAMPION = "champion"
    CANARY = "canary"
    SHADOW = "shadow"


app = typer.Typer(help="Which models score, and for whom.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Named = Annotated[str, typer.Argument(help="A bundle's folder, or name/version of VIGIL_MODELS.")]

DEPLOYMENT: Final = "deployment"


@app.command("list")
def list_(*, json: Json = False) -> None:
    """Show what shall score, since when and by whom; exit code 1 if scoring differs."""
    from services.cli.deployment import UNCHANGED, at_work, known, row_of
    from services.cli.moment import shown

    history, loaded = Log().history, at_work()
    rows = [row_of(history, part, seat, loaded) for part, seat in history.now.seats()]
    differs = loaded is not None and not {known(row) for row in rows} <= loaded
    if json:
        told = None if loaded is None else [list(each) for each in sorted(loaded)]
        _print_json("list", {"models": rows, "share": history.now.share, "scoring": told})
    else:
        if history.now.champion is None:
            print(f"champion  {UNCHANGED}")
        for row in rows:
            share = f" {history.now.share} %" if row["role"] == Role.CANARY else ""
            print(f"{row['role']}{share}  {row['name']} {row['version']}  {row['digest'][:12]}")
            print(f"  since {shown(row['since'])} by {row['requested_by']}: {row['reason']}")
            print(f"  approved by {row['approved_by']}, policy {row['policy']}, {_said(row)}")
        for role, name, version in sorted(loaded or ()):
            print(f"scoring says: {role} {name} {version}")
    raise typer.Exit(ExitCode.FINDING if differs else ExitCode.OK)


@app.command()
def check(bundle: Named, *, json: Json = False) -> None:
    """Hold a bundle to everything that it takes to be put into use."""
    from services.cli.deployment import ready

    loaded = ready(bundle)
    told = {"name": loaded.name, "version": loaded.version, "digest": loaded.digest}
    if json:
        _print_json("check", told)
        return
    print(f"{loaded.name} {loaded.version} can be used, digest {loaded.digest}")


@app.command()
def deploy(  # noqa: PLR0913 - each is an answer of the person at the terminal
    bundle: Named,
    *,
    role: Annotated[Role, typer.Option(help="champion, canary or shadow.")],
    share: Annotated[int, typer.Option(min=0, max=99, help="Per cent, for a canary.")] = 0,
    requested_by: RequestedBy,
    approved_by: ApprovedBy,
    reason: Reason,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put a model into use: a change that is kept for ever, and that scoring takes up at once."""
    from services.cli.deployment import proposed, ready
    from services.core.lineup import Part, Seat

    asked = Asked(requested_by, approved_by, reason).checked()
    if (role is Role.CANARY) != (share > 0):
        raise typer.BadParameter("a canary, and nothing else, has a --share of 1 to 99")
    loaded = ready(bundle)
    seat = Seat(name=loaded.name, version=loaded.version, digest=loaded.digest)
    log = Log()
    held = dict(log.history.now.seats()).get(Part(role))
    proposal = proposed(log.history, seat, Part(role), share)
    before = held.digest if held and role is not Role.SHADOW else ""
    change = change_of(
        proposal, asked, kind=DEPLOYMENT, subject=f"model/{role}", before=before, after=seat.digest
    )
    again = f"vigil models deploy {bundle} …"
    _settle(log, change, proposal, ("deploy", again), yes=yes, dry_run=dry_run, json=json)


@app.command()
def withdraw(  # noqa: PLR0913 - as above
    bundle: Annotated[str, typer.Argument(help="name/version of a canary or a shadow.")],
    *,
    requested_by: RequestedBy,
    approved_by: ApprovedBy,
    reason: Reason,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take a canary or a shadow out of use."""
    from services.core.lineup import Part, withdrawn

    asked, log = Asked(requested_by, approved_by, reason).checked(), Log()
    seats = [
        (part, seat)
        for part, seat in log.history.now.seats()
        if f"{seat.name}/{seat.version}" == bundle and part is not Part.CHAMPION
    ]
    if not seats:
        what = f"No canary and no shadow is {bundle}."
        raise CommandError(what, "`vigil models list` names those there are.", Fault.NOT_IN_USE)
    part, seat = seats[0]
    proposal = log.history.propose(withdrawn(log.history.now, seat.digest))
    subject = f"model/{part}"
    change = change_of(
        proposal, asked, kind=DEPLOYMENT, subject=subject, before=seat.digest, after=""
    )
    again = f"vigil models withdraw {bundle} …"
    _settle(log, change, proposal, ("withdraw", again), yes=yes, dry_run=dry_run, json=json)


@app.command()
def rollback(
    *,
    requested_by: RequestedBy,
    approved_by: ApprovedBy,
    reason: Reason,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Go back to what held before the last deployment that stands, by another change."""
    from services.cli.deployment import ready

    asked, log = Asked(requested_by, approved_by, reason).checked(), Log()
    proposal = log.history.undo({DEPLOYMENT})
    if proposal is None:
        what = "No deployment stands that could be taken back."
        raise CommandError(what, "`vigil models list` shows what holds.", Fault.NOT_IN_USE)
    for _, seat in proposal.line_up.seats():
        ready(seat.name, seat.digest)
    undone = next(s.change for s in log.history.standing if s.change.change_id == proposal.undoes)
    before, after = undone.after, undone.before
    change = change_of(
        proposal, asked, kind=DEPLOYMENT, subject=undone.subject, before=before, after=after
    )
    again = "vigil models rollback …"
    _settle(log, change, proposal, ("rollback", again), yes=yes, dry_run=dry_run, json=json)


def _settle(  # noqa: PLR0913 - each is an answer of the person at the terminal
    log: Log, change: "Change", proposal: "Proposal", words: tuple[str, str], *,
    yes: bool, dry_run: bool, json: bool,
) -> None:  # fmt: skip
    from services.cli.deployment import difference

    command, again = words
    lines = difference(log.history.now, proposal.line_up)
    if not (yes or dry_run):
        ask(lines, "Put it into use?", look=f"{again} --dry-run", go=f"{again} --yes")
    if not dry_run:
        log.publish(change)
    if json:
        told = {"before": change.before, "after": change.after, "dry_run": dry_run}
        _print_json(command, told | ({} if dry_run else {"change_id": change.change_id}))
        return
    for line in [*lines, *([] if dry_run else [f"in use as change {change.change_id}"])]:
        print(line)


def _said(row: dict[str, Any]) -> str:
    words = {True: "at work", False: "NOT at work: see the log of scoring", None: "not asked"}
    return words[row["at_work"]]


def _print_json(command: str, content: dict[str, Any]) -> None:
    import msgspec

    body = {"schema": f"vigil.models.{command}/1", **content}
    sys.stdout.write(msgspec.json.encode(body).decode() + "\n")
