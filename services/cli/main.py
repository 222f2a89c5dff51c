"""The command `vigil`: the tree of commands, each loaded only when it is asked for."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.core
from typing_extensions import override

# name: (module:attribute, what it does); the attribute is a function, or a group of them
COMMANDS: Final = {
    "up": ("services.cli.stack:up", "Start Kafka, ClickHouse and the services on this machine."),
    "down": ("services.cli.stack:down", "End all that `up` started; data stay."),
    "status": ("services.cli.stack:status", "Show every process: state, port, restarts."),
    "logs": ("services.cli.stack:logs", "Show what a process said."),
    "doctor": ("services.cli.stack:doctor", "Check this machine and say what to do."),
    "topics": ("services.cli.topics:app", "Bring Kafka's topics to what schemas/ says."),
    "train": ("services.cli.train:train", "Make a model bundle from recorded stays."),
    "evaluate": ("services.cli.evaluate:evaluate", "Measure a bundle on recorded stays."),
    "robustness": ("services.cli.robustness:robustness", "What models lose elsewhere."),
    "models": ("services.cli.models:app", "Which models score; put others in their place."),
    "policy": ("services.cli.policy:app", "When a score becomes an alert; change the rules."),
    "ledger": ("services.cli.ledger:app", "Prove the ledger, account for every offset."),
    "recompute": ("services.cli.recompute:recompute", "Compute live metrics anew and compare."),
    "drift": ("services.cli.drift:app", "What windows say of the inputs, and why."),
    "report": ("services.cli.report.command:report", "Write a page for clinical leadership."),
    "sql": ("services.cli.sql:sql", "Ask the store; nothing is changed."),
    "replay": ("services.cli.replay:replay", "Send recorded patients to the gateway."),
    "demo": ("services.cli.demo.command:demo", "Let a ward stream through; take account of it."),
    "dashboards": ("services.cli.dashboards:app", "Write Grafana's boards as JSON."),
    "dlq": ("services.cli.dlq:app", "What was refused, and why."),
    "terminology": ("services.cli.terminology:app", "Check codes and units; try messages."),
    "identity": ("services.cli.identity:app", "Who a pseudonym is, for those who may know."),
    "keys": ("services.cli.keys:app", "The payload key by epochs; append a new one."),
    "errors": ("services.cli.errors:errors", "What the code of an error means."),
}
INTERRUPTED: Final = 130
"""What a shell makes of Ctrl-C."""
# These look at the machine itself, or have a stack of their own; all others are told where the
# stack that runs here is.
OF_THE_STACK: Final = {"up", "down", "status", "logs", "doctor", "demo", "errors", "terminology"}


class Tree(typer.core.TyperGroup):
    """Knows names and one line of help of each command without loading any."""

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of a first day."""
        return list(COMMANDS)

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Loads a command; None when there is none of that name."""
        return _load(cmd_name) if cmd_name in COMMANDS else None

    @override
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Lists the commands from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    @override
    def invoke(self, ctx: Any) -> Any:
        """Runs a command; what it cannot do ends in a code, one sentence and its exit code."""
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except (KeyboardInterrupt, typer.Abort):
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:  # noqa: BLE001 - none may end in a text that holds values
            raise _end(error) from None

    @override
    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Reads the options of the tree itself."""
        try:
            return super().make_context(*args, **extra)
        except typer.TyperException as error:
            raise _end(error) from None


app = typer.Typer(
    cls=Tree,
    help="A watch over clinical models at work.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # its frames would show the values of variables
)


def _version(asked: bool) -> None:  # noqa: FBT001 - typer hands a flag over by position
    if asked:
        from importlib.metadata import version

        print(f"vigil {version('vigil')}")
        raise typer.Exit


@app.callback()
def tree(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and end.")
    ] = False,
) -> None:
    """Runs before each command."""
    if context.invoked_subcommand not in OF_THE_STACK:
        adopt_running_stack()


def adopt_running_stack() -> None:
    """Takes the addresses of the stack that runs here, unless the environment names others."""
    path = Path(os.environ.get("VIGIL_HOME") or ".vigil") / "run" / "environment.json"
    if path.exists():
        os.environ.update({**json.loads(path.read_text()), **os.environ})


def wrong_python(version: tuple[int, int]) -> str | None:
    """What is wrong with this Python, or None."""
    if version >= (3, 11):
        return None
    found = f"{version[0]}.{version[1]}"
    return f"vigil: this is Python {found}; install 3.11 or later, then `make setup`"


def main() -> None:
    """The door of the program."""
    complaint = wrong_python(sys.version_info[:2])
    if complaint:
        sys.exit(complaint)
    app(prog_name="vigil")


def _end(error: Exception) -> Exception:
    from services.cli.ending import ended

    exit_code = ended(error)
    return error if exit_code is None else typer.Exit(exit_code)


def _load(name: str) -> Any:
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(rich_markup_mode=None, add_completion=False)
        single.command()(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    return command


if __name__ == "__main__":
    main()
