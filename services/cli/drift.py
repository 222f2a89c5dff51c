"""`vigil drift`: what windows say of the inputs, why, and what they are held against."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.baseline import app as baseline
from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from services.core.baseline import FeatureReference
    from services.core.events import Measurement
    from services.monitoring.findings import Findings

app = typer.Typer(help="Drift of what the model is fed.", no_args_is_help=True)
app.add_typer(baseline, name="baseline")
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("list")
def list_states(
    *,
    since: Annotated[str, typer.Option("--from", help="Day or time with zone.")] = "",
    until: Annotated[str, typer.Option("--to", help="The same, not in it.")] = "",
    cohort: Annotated[str, typer.Option(help="Only this one; `all` for everybody.")] = "",
    json: Json = False,
) -> None:
    """Show the state of each feature by window, and the signals that are open."""
    from services.cli.explanation import opened, states
    from services.cli.moment import moment
    from services.core.windows import Window

    findings = _findings()
    end = moment(until) if until else 1 << 62
    stated = [
        each
        for each in findings.stated(Window(moment(since) if since else 0, end))
        if cohort in ("", each.cohort)
    ]
    signals = [each for each in findings.open_signals() if cohort in ("", each.cohort)]
    if json:
        _print_json("list", {"measurements": stated, "open": signals})
        return
    for line in [*states(stated), "", *opened(signals)]:
        print(line)


@app.command()
def explain(
    signal: Annotated[str, typer.Argument(help="As `vigil drift list` names it.")],
    *,
    json: Json = False,
) -> None:
    """Say what a signal rests on, what else happened, and what would have been seen."""
    import msgspec

    from services.cli.explanation import Explanation, power_of, told
    from services.core.baseline import PRESENCE
    from services.core.windows import Window

    findings = _findings()
    steps = findings.steps(signal)
    if not steps:
        raise CommandError(
            f"There is no drift signal {signal}.",
            "`vigil drift list` names those that are open.",
            Fault.NO_SIGNAL,
        )
    at = Window(steps[-1].start, steps[-1].end)
    about = (steps[-1].feature, steps[-1].cohort)
    stated = findings.stated(at)
    said = next((each for each in stated if (each.feature, each.cohort) == about), None)
    found = Explanation(
        signal_id=signal,
        steps=steps,
        statement=said,
        changes=findings.changes(at),
        mix=findings.mix(at, steps[-1].feature.removesuffix(PRESENCE)),
        power=power_of(said, *_reference(said)) if said else None,
    )
    if json:
        _print_json("explain", msgspec.structs.asdict(found))
        return
    for line in told(found):
        print(line)


def _reference(said: "Measurement") -> "tuple[FeatureReference | None, int]":
    """The reference by its digest, and how many tests share the family's error with it."""
    from services.cli.ledger import migrated
    from services.core.baseline import EVERYBODY
    from services.core.errors import Refusal
    from services.monitoring.baselines import put_into_use
    from services.monitoring.past import Past
    from services.runtime.codec import Codec
    from services.runtime.settings import ServiceSettings

    codec = Codec(ServiceSettings().schemas)
    for value in Past(migrated()).baselines():
        try:
            used = put_into_use(value, codec)
        except Refusal:
            continue
        known = used[1].cohorts if used and used[1].digest == said.reference else {}
        if said.cohort in known:
            units = 1 if said.cohort == EVERYBODY else max(1, len(known) - 1)
            features = known[said.cohort].features
            return features.get(said.feature), units * len(features)
    return None, 1


def _findings() -> "Findings":
    from services.cli.ledger import migrated
    from services.monitoring.findings import Findings

    return Findings(migrated())


def _print_json(command: str, content: dict[str, Any]) -> None:
    import msgspec

    body = {"schema": f"vigil.drift.{command}/1", **content}
    print(msgspec.json.encode(body).decode())
