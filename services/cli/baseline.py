"""`vigil drift baseline`: make a reference, and put it into use with a name behind it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli.changing import PATIENCE_S, TOPIC, Asked, write
from services.cli.consent import DryRun, Yes, ask
from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from services.core.baseline import Baseline
    from services.core.events import Change
    from services.core.freeze import PatientHours, Period

app = typer.Typer(help="What windows are held against.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Out = Annotated[Path, typer.Option(help="The file to write.")]
Seed = Annotated[int, typer.Option(help="Of the draws; the same seed gives the same file.")]

SUBJECT: Final = "baseline/site"


@app.command()
def make(
    out: Out,
    *,
    stays: Annotated[int, typer.Option(min=100, help="Simulated stays.")] = 2000,
    seed: Seed = 1,
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
    json: Json = False,
) -> None:
    """Make the baseline of a simulated ward in which nothing changes; takes a minute."""
    import numpy as np

    from services.core.freeze import Period
    from services.ingest.tables import read_terminology
    from services.runtime.settings import ServiceSettings
    from services.simulator.unchanged import unchanged

    charting, drawing = np.random.default_rng(seed).spawn(2)
    _say(f"charting {stays:,} stays of an unchanged ward")
    terminology = read_terminology(ServiceSettings().schemas / "terminology")
    given = unchanged(charting, terminology, stays=stays)
    _freeze(drawing, given, Period(name or f"{stays} stays, seed {seed}"), out, json=json)


@app.command()
def freeze(
    out: Out,
    since: Annotated[str, typer.Option("--from", help="Day or time with zone.")],
    until: Annotated[str, typer.Option("--to", help="The same, not in it.")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    *,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Freeze a period of the ledger as a baseline."""
    import numpy as np

    from services.cli.ledger import migrated
    from services.cli.moment import moment, shown
    from services.core.freeze import Period
    from services.monitoring.period import patient_hours

    start, end = moment(since), moment(until)
    if start >= end:
        raise typer.BadParameter("the period ends before it begins")
    _say(f"reading the ledger from {shown(start)} to {shown(end)}")
    given = patient_hours(migrated(), start, end)
    period = Period(name, start, end)
    _freeze(np.random.default_rng(seed), given, period, out, json=json)


@app.command()
def use(  # noqa: PLR0913 - each is an option
    file: Annotated[Path, typer.Argument(help="As `make` or `freeze` wrote it.")],
    *,
    effective_from: Annotated[str, typer.Option(help="Day or time with zone, of the events.")],
    requested_by: Annotated[str, typer.Option(help="Who asks for it.")],
    approved_by: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put a baseline into use; a change that is kept for ever."""
    import datetime as dt
    import uuid

    from services.cli.moment import microseconds, moment
    from services.core.baseline import encode
    from services.core.events import Change

    Asked(requested_by, approved_by, reason).checked()
    baseline = read(file)
    change = Change(
        change_id=str(uuid.uuid4()),
        kind="baseline",
        subject=SUBJECT,
        made_at=microseconds(dt.datetime.now(dt.UTC)),
        effective_from=moment(effective_from),
        requested_by=requested_by,
        approved_by=approved_by,
        reason=reason,
        before=_latest(),
        after=baseline.digest,
        content=encode(baseline),
    )
    lines = difference(change, baseline)
    if not (yes or dry_run):
        again = f"vigil drift baseline use {file.name} …"
        ask(lines, "Put it into use?", look=f"{again} --dry-run", go=f"{again} --yes")
    if not dry_run:
        _publish(change)
    if json:
        told = {"digest": baseline.digest, "before": change.before, "dry_run": dry_run}
        _print_json("use", told | ({} if dry_run else {"change_id": change.change_id}))
        return
    for line in [*lines, *([] if dry_run else [f"in use as change {change.change_id}"])]:
        print(line)


def difference(change: "Change", baseline: "Baseline") -> list[str]:
    """Say what a change of the baseline replaces by what, since when and why."""
    from services.cli.moment import shown

    patients = f"{baseline.cohorts['all'].patients:,} patients" if baseline.cohorts else "nobody"
    return [
        f"- {change.before or 'no baseline'}",
        f"+ {change.after} {baseline.name}, {patients}, {len(baseline.cohorts)} cohorts",
        f"from {shown(change.effective_from)}, because: {change.reason}",
        f"asked for by {change.requested_by}, approved by {change.approved_by}",
    ]


def read(file: Path) -> "Baseline":
    """Read a baseline that may be put into use.

    Raises:
        CommandError: there is no such file (CONFIGURATION), or it is no site baseline (REFUSED).
    """
    from services.core.baseline import decode
    from services.core.errors import Refusal

    try:
        baseline = decode(file.read_bytes())
    except OSError as error:
        what = f"The baseline cannot be read: {error.strerror}."
        remedy = "Make one with `vigil drift baseline make` or `freeze`."
        raise CommandError(what, remedy, Fault.NO_BASELINE) from None
    except Refusal:
        raise _refused(f"{file.name} is no baseline of this version.") from None
    if baseline.kind != "site":
        raise _refused(f"{file.name} describes a training population, which never alarms.")
    return baseline


def _freeze(rng: Any, given: "PatientHours", period: "Period", out: Path, *, json: bool) -> None:
    from services.core.baseline import encode
    from services.core.freeze import freeze as frozen

    _say(f"drawing windows of {len(given.units):,} patients with {len(given.hour):,} hours")
    try:
        baseline = frozen(rng, given, period)
    except ValueError as error:
        raise _refused(
            f"No baseline can be made of {len(given.units)} patients: {error}."
        ) from None
    try:
        out.write_bytes(encode(baseline))
    except OSError as error:
        what = f"The baseline cannot be written to {out}: {error.strerror}."
        remedy = "Give a file in a folder that you may write to."
        raise CommandError(what, remedy, Fault.UNWRITABLE) from None
    if json:
        told = {"digest": baseline.digest, "patients": len(given.units), "file": str(out)}
        _print_json(
            "make", told | {"cohorts": {n: c.patients for n, c in baseline.cohorts.items()}}
        )
        return
    for cohort, of in baseline.cohorts.items():
        most = max((n.patients for f in of.features.values() for n in f.nulls), default=0)
        print(f"{cohort:<24}{of.patients:>8,} patients, windows of up to {most} calibrated")
    print(f"{out}, digest {baseline.digest}")


def _latest() -> str:
    """Digest of the baseline that was put into use last; empty when there is none."""
    from services.core.events import Change
    from services.runtime.codec import Codec
    from services.runtime.kafka.admin import partitions_of
    from services.runtime.kafka.reader import scan
    from services.runtime.settings import KafkaSettings, ServiceSettings

    options, codec = KafkaSettings().client_options(), Codec(ServiceSettings().schemas)
    digest = ""
    for record in scan(options, partitions_of(options, [TOPIC]), patience_s=PATIENCE_S):
        change = codec.decode(record.value, Change) if record.value else None
        if change and change.subject == SUBJECT:
            digest = change.after
    return digest


def _publish(change: "Change") -> None:
    from services.runtime.codec import Codec
    from services.runtime.settings import KafkaSettings, ServiceSettings

    write(change, KafkaSettings().client_options(), Codec(ServiceSettings().schemas))


def _refused(what: str) -> CommandError:
    remedy = "A site baseline of 100 patients or more can be used; see docs/drift.md."
    return CommandError(what, remedy, Fault.BASELINE)


def _print_json(command: str, content: dict[str, Any]) -> None:
    import msgspec

    body = {"schema": f"vigil.drift.baseline.{command}/1", **content}
    print(msgspec.json.encode(body).decode())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
