"""`vigil errors`: the codes of errors, at the terminal and as docs/errors.md."""

from typing import Annotated, Final

import typer

from services.core.errors import CommandError, ExitCode
from services.core.faults import Fault

COLUMNS: Final = "| code | what happened | what to do |\n|---|---|---|\n"
ENDS: Final = {
    ExitCode.USAGE: "the command was not understood",
    ExitCode.CONFIGURATION: "something is set up wrongly",
    ExitCode.UNREACHABLE: "something does not answer",
    ExitCode.REFUSED: "data were refused",
    ExitCode.CRASH: "Vigil is wrong",
}
HEAD: Final = """\
# Codes of errors

Every command that cannot do what it was asked says a code, what happened and why, and what to do,
on stderr; services that do not start say the same in their log. The first digit is the exit code,
except where a command ends as another one ended that it had called. 1 is no error but a finding,
130 an interruption. `vigil errors VGL-3302` tells one of them at the terminal. No code changes its
meaning.

This page is written by `vigil errors --markdown > docs/errors.md`, from `services/core/faults.py`.
"""


def errors(
    code: Annotated[str, typer.Argument(help="One code, such as VGL-3302; all if none.")] = "",
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/errors.md.")] = False,
) -> None:
    """Tell what the code of an error means, and what to do."""
    found = [fault for fault in Fault if code.upper() in ("", fault.code, str(fault.number))]
    if not found:
        what = f"There is no error {code}."
        raise CommandError(what, "`vigil errors` lists all.", Fault.NO_FAULT)
    if json:
        _print_json(found)
    elif markdown:
        print(page(), end="")
    else:
        for fault in found:
            print(f"{fault.code}  {fault.means}\n{'':10}{fault.remedy}")


def page() -> str:
    """Write docs/errors.md."""
    parts = [HEAD]
    for exit_code, words in ENDS.items():
        parts.append(f"\n## {exit_code.value}: {words}\n\n{COLUMNS}")
        of = (fault for fault in Fault if _end(fault) is exit_code)
        parts += [f"| {fault.code} | {fault.means} | {fault.remedy} |\n" for fault in of]
    return "".join(parts)


def _end(fault: Fault) -> ExitCode:
    first = fault.number // 1000
    return ExitCode.CRASH if fault is Fault.UNEXPECTED else ExitCode(first)


def _print_json(found: list[Fault]) -> None:
    import json

    told = [{"code": f.code, "means": f.means, "remedy": f.remedy} for f in found]
    print(json.dumps({"schema": "vigil.errors/1", "errors": told}))
