"""`vigil policy`: the rules between score and alert, and how people put others into use."""

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli.changing import ApprovedBy, Asked, Log, Reason, RequestedBy, change_of
from services.cli.consent import DryRun, Yes, ask
from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from services.core.lineup import History, LineUp, Seat
    from services.core.policy import Policy
    from services.runtime.bundle import Bundle


class Shown(StrEnum):
    """The parts of models whose scores become alerts."""

    CHAMPION = "champion"
    CANARY = "canary"


app = typer.Typer(help="When a score becomes an alert, and for whom.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="A policy, as policy.json of a bundle is one.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Role = Annotated[Shown, typer.Option(help="Whose scores are held to it.")]

LIMITS: Final = frozenset({"threshold", "units", "clear_below"})
"""What a change of the kind `threshold` changes, beside the version."""


@app.command()
def check(file: File, *, json: Json = False) -> None:
    """Hold a policy to what it takes to be put into use, and say in words what it does."""
    policy = read(file)
    if json:
        _print_json("check", {"version": policy.version, "policy": policy})
        return
    _print_lines([f"{policy.version} can be used", *words(policy)])


@app.command()
def show(*, role: Role = Shown.CHAMPION, json: Json = False) -> None:
    """Show the policy that shall hold, and whose scores it judges."""
    seat = seat_of(Log().history.now, role)
    policy = policy_of(seat)
    whose = {"role": role, "name": seat.name, "version": seat.version, "digest": seat.digest}
    if json:
        own = seat.policy is None
        _print_json("show", {"model": whose, "of_the_bundle": own, "policy": policy})
        return
    whom = f"{role} {seat.name} {seat.version}"
    _print_lines([f"{policy.version}, for the scores of the {whom}", *words(policy)])


@app.command()
def use(  # noqa: PLR0913 - each is an answer of the person at the terminal
    file: File,
    *,
    role: Role = Shown.CHAMPION,
    requested_by: RequestedBy,
    approved_by: ApprovedBy,
    reason: Reason,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put a policy into use: a change that is kept for ever, and that scoring takes up at once."""
    asked, policy, log = Asked(requested_by, approved_by, reason).checked(), read(file), Log()
    seat = seat_of(log.history.now, role)
    before = policy_of(seat)
    _must_be_new(policy, log.history, before)
    lines = difference(before, policy)
    go = f"vigil policy use {file} …"
    if not (yes or dry_run):
        ask(lines, "Put it into use?", look=f"{go} --dry-run", go=f"{go} --yes")
    change = change_of(
        log.history.propose(under(log.history.now, role, seat, policy)),
        asked,
        kind=kind_of(before, policy),
        subject=f"policy/{role}",
        before=before.version,
        after=policy.version,
    )
    if not dry_run:
        log.publish(change)
    told = {"before": before.version, "after": policy.version, "dry_run": dry_run}
    if json:
        _print_json("use", told | ({} if dry_run else {"change_id": change.change_id}))
        return
    _print_lines([*lines, *([] if dry_run else [f"in use as change {change.change_id}"])])


@app.command()
def what_if(
    file: File,
    *,
    since: Annotated[str, typer.Option("--from", help="Day or time with zone.")] = "",
    until: Annotated[str, typer.Option("--to", help="The same, not in it.")] = "",
    role: Role = Shown.CHAMPION,
    json: Json = False,
) -> None:
    """Let a policy judge the scores on record, beside the one in force; nothing changes."""
    from services.cli import trial

    seat = seat_of(Log().history.now, role)
    policies = {"in force": policy_of(seat), "the file": read(file)}
    told = trial.retried(seat.digest, since, until, policies)
    counted = {whose: dict(trial.counts(of)) for whose, of in told.items()}
    scores = told["the file"].scores
    if json:
        _print_json("what-if", {"scores": scores, "policies": counted})
        return
    print(f"{scores:,} scores, and what corrected, moved or discharged their patients")
    _print_lines(trial.table(counted))


def read(file: Path) -> "Policy":
    """Read a policy that may be put into use.

    Raises:
        CommandError: there is no such file (CONFIGURATION), or it is none that may (REFUSED).
    """
    from services.core.policy import read_policy

    try:
        return read_policy(file.read_bytes())
    except OSError as error:
        what = f"The policy cannot be read: {error.strerror}."
        remedy = "Name a file; `vigil policy show --json` holds the one that is in use."
        raise CommandError(what, remedy, Fault.NO_POLICY) from None
    except ValueError as error:
        remedy = "docs/policy.md says what each rule takes."
        raise CommandError(f"{file.name}: {error}.", remedy, Fault.POLICY_REFUSED) from None


def seat_of(line_up: "LineUp", role: Shown) -> "Seat":
    """Give the model that has a part; the champion is at first the configured one.

    Raises:
        CommandError: nobody has it.
    """
    if role is Shown.CHAMPION:
        return line_up.champion or _seat(_bundle())
    if line_up.canary is not None:
        return line_up.canary
    what = "No canary is in use."
    raise CommandError(what, "`vigil models list` shows what is in use.", Fault.NOT_IN_USE)


def policy_of(seat: "Seat") -> "Policy":
    """Give the policy to which a model's scores are held; raises CommandError as `load` does."""
    from services.runtime import bundle

    return seat.policy or bundle.policy_of(_bundle(seat))


def under(line_up: "LineUp", role: Shown, seat: "Seat", policy: "Policy") -> "LineUp":
    """Hold the model of a part to another policy; all else stays."""
    import msgspec

    held = msgspec.structs.replace(seat, policy=policy)
    return msgspec.structs.replace(line_up, **{role.value: held})


def kind_of(before: "Policy", after: "Policy") -> str:
    """Name the change: `threshold` where nothing but thresholds differ."""
    changed = {name for name in before.__struct_fields__ if _differs(before, after, name)}
    return "threshold" if changed - {"version"} <= LIMITS else "policy"


def difference(before: "Policy", after: "Policy") -> list[str]:
    """Say what would change, a line per rule."""
    names = [name for name in before.__struct_fields__ if _differs(before, after, name)]
    return [f"{name}: {_said(before, name)} → {_said(after, name)}" for name in names]


def words(policy: "Policy") -> Iterator[str]:
    """Say what a policy does, a line per rule."""
    yield f"raises at {policy.threshold:g}, after {policy.persistence} score(s) that reach it"
    for unit, threshold in sorted(policy.units.items()):
        yield f"  in {unit} at {threshold:g}"
    yield f"clears below {policy.clear_below:g}"
    yield f"expires {policy.valid_for_h:g} h after it was told"
    yield f"silent for {policy.refractory_h:g} h after it was raised"
    for step in policy.severity:
        yield f"  unless the score reaches {step:g} for the first time: then it tells again"
    if policy.transfer.to:
        units = ", ".join(policy.transfer.to)
        yield f"silent for {policy.transfer.silent_h:g} h after a transfer to {units}"
    least, oldest = policy.abstain.min_vitals, policy.abstain.max_age_h
    yield f"no score without {least} vital signs of the last {oldest:g} h"


def _must_be_new(policy: "Policy", history: "History", before: "Policy") -> None:
    """Refuse a version that names other rules already: records tell policies apart by it."""
    if policy == before:
        what = f"{policy.version} is in use already."
        raise CommandError(what, "Nothing need be changed.", Fault.POLICY_REFUSED)
    used = [seat.policy for step in history.standing for _, seat in step.line_up.seats()]
    for known in (before, *used):
        if known is not None and known.version == policy.version and known != policy:
            what = f"The version {policy.version} names other rules already."
            raise CommandError(what, "Give it a version of its own.", Fault.POLICY_REFUSED)


def _bundle(seat: "Seat | None" = None) -> "Bundle":
    from services.runtime import bundle
    from services.scoring.settings import ScoringSettings

    settings = ScoringSettings()
    path = bundle.find(settings.models, seat.name, seat.digest) if seat else settings.model
    return bundle.load(path)


def _seat(loaded: "Bundle") -> "Seat":
    from services.core.lineup import Seat

    return Seat(name=loaded.name, version=loaded.version, digest=loaded.digest)


def _differs(before: "Policy", after: "Policy", name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))


def _said(policy: "Policy", name: str) -> str:
    import msgspec

    return msgspec.json.encode(getattr(policy, name)).decode()


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_json(command: str, content: dict[str, Any]) -> None:
    import msgspec

    body = {"schema": f"vigil.policy.{command}/1", **content}
    sys.stdout.write(msgspec.json.encode(body).decode() + "\n")
