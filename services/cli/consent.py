"""Asking before something changes: it is shown first, and silence is never taken for yes."""

import sys
from collections.abc import Iterable
from typing import Annotated, Final

import typer

from services.core.errors import CommandError
from services.core.faults import Fault

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
REMEDY: Final = "look at what would change with `{look}`, then run `{go}`"


def ask(lines: Iterable[str], question: str, *, look: str, go: str) -> None:
    """Show what would change on stderr, and go on only when somebody at the terminal agrees.

    Args:
        lines: what would change.
        question: to be answered with yes.
        look: the command that shows it and changes nothing.
        go: the command that changes it unasked.

    Raises:
        CommandError: nobody is at the terminal.
        typer.Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        what = "something would change and nobody can be asked"
        raise CommandError(what, REMEDY.format(look=look, go=go), Fault.UNASKED)
    for line in lines:
        print(line, file=sys.stderr)
    typer.confirm(question, abort=True, err=True)
