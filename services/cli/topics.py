"""`vigil topics`: bring a cluster's topics to what `schemas/` says, and land schemas."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.consent import DryRun, Yes, ask
from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault

if TYPE_CHECKING:
    from services.runtime.kafka.client import Options
    from services.runtime.topics.plan import Plan

app = typer.Typer(help="Topics and their schemas.", no_args_is_help=True)
AGREEMENT_S = 20.0
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def diff(*, json: Json = False) -> None:
    """Show what `apply` would do; exit code 1 if that is anything."""
    schemas, options, partitions = _settings()
    found = _plan(schemas, options, partitions)
    _report("diff", found, json=json)
    if found.changes or found.refused:
        raise typer.Exit(ExitCode.FINDING)


@app.command()
def apply(
    *,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Create missing topics and set their settings; refuse what would break readers or order."""
    schemas, options, partitions = _settings()
    found = _plan(schemas, options, partitions)
    if found.refused:
        first = found.refused[0]
        raise CommandError(
            f"{first.subject} is refused: {first.why}",
            "nothing was changed; `vigil topics diff` shows everything that differs",
            Fault.TOPIC_REFUSED,
        )
    if found.changes and not yes:
        look, go = "vigil topics diff", "vigil topics apply --yes"
        ask(_lines(found), "Change the cluster?", look=look, go=go)
    _carry_out(found, options)
    _await_agreement(schemas, options, partitions)
    _report("apply", found, json=json)


@app.command()
def freeze(*, yes: Yes = False, dry_run: DryRun = False, json: Json = False) -> None:
    """Land today's schemas: copy them to schemas/history, where they stay for ever."""
    from services.runtime.topics.history import freeze as freeze_schemas
    from services.runtime.topics.history import unfrozen

    schemas = _settings()[0]
    new = [f"{schema.name} {schema.fingerprint}" for schema in unfrozen(schemas)]
    if new and not (yes or dry_run):
        look, go = "vigil topics freeze --dry-run", "vigil topics freeze --yes"
        ask(new, "Land these schemas for ever?", look=look, go=go)
    if not dry_run:
        freeze_schemas(schemas)
    if json:
        _print_json("freeze", {"schemas": new, "dry_run": dry_run})
        return
    for line in new or ["all schemas are landed"]:
        print(line)


def _settings() -> "tuple[Path, Options, int]":
    from pydantic import Field
    from pydantic_settings import BaseSettings, SettingsConfigDict

    from services.runtime.settings import KafkaSettings

    class TopicSettings(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="VIGIL_")

        schemas: Path = Path("schemas")
        partitions: int = Field(default=4, ge=1, le=1000)

    settings = TopicSettings()
    return settings.schemas, KafkaSettings().client_options(), settings.partitions


def _plan(schemas: Path, options: "Options", partitions: int) -> "Plan":
    from services.runtime.kafka.admin import topics
    from services.runtime.topics.files import read_topics
    from services.runtime.topics.history import incompatible
    from services.runtime.topics.plan import Plan, plan

    wanted, broken = read_topics(schemas), incompatible(schemas)
    found = plan(wanted, topics(options), partitions=partitions)
    return Plan(changes=found.changes, refused=[*broken, *found.refused])


def _carry_out(found: "Plan", options: "Options") -> None:
    from services.runtime.kafka.admin import create_topic, set_config

    for change in found.changes:
        if change.action == "create":
            create_topic(options, change.topic, partitions=change.partitions, config=change.config)
        else:
            set_config(options, change.topic, change.config)


def _await_agreement(schemas: Path, options: "Options", partitions: int) -> None:
    """Wait until brokers show what the controller has decided: they hear of it a moment later."""
    import time

    from services.core.errors import Retry

    deadline = time.monotonic() + AGREEMENT_S
    while _plan(schemas, options, partitions).changes:
        if time.monotonic() > deadline:
            raise Retry("Kafka: topics were changed and the brokers do not show it")
        time.sleep(0.05)


def _report(command: str, found: "Plan", *, json: bool) -> None:
    if json:
        import msgspec

        _print_json(command, msgspec.to_builtins(found))
        return
    for line in _lines(found) or ["topics are as their files say"]:
        print(line)


def _print_json(command: str, content: dict[str, Any]) -> None:
    import msgspec

    body = {"schema": f"vigil.topics.{command}/1", **content}
    print(msgspec.json.encode(body).decode())


def _lines(found: "Plan") -> list[str]:
    lines = [f"refused    {r.subject}: {r.why}" for r in found.refused]
    for change in found.changes:
        config = ", ".join(f"{k}={v}" for k, v in sorted(change.config.items()))
        count = f" {change.partitions} partitions," if change.action == "create" else ""
        lines.append(f"{change.action:<10} {change.topic}:{count} {config}")
    return lines
