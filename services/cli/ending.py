"""How a command ends that cannot do what it was asked: a code, what happened, what to do."""

import errno
import sys
import traceback
from typing import Final

import typer

from services.core.errors import CommandError, ExitCode, Retry
from services.core.faults import Fault

NOT_KNOWN: Final = "`vigil --help` names the commands, `vigil COMMAND --help` their options"


def ended(error: Exception) -> int | None:
    """Say on stderr what is wrong and what to do.

    Args:
        error: what the command raised.

    Returns:
        The exit code; None where there is nothing to say, because help was asked for.
    """
    match error:
        case CommandError():
            return _say(error.vgl, error.what, error.remedy, error.exit_code)
        case Retry():
            return _say_of(Fault.NO_ANSWER, str(error))
        case typer.TyperException():
            return _usage(error)
        case OSError(errno=errno.ENOSPC):
            return _say_of(Fault.DISK_FULL, "the disk is full")
        case _ if type(error).__name__ == "ValidationError":
            return _setting(error)
        case _:
            return _unexpected(error)


def _usage(error: typer.TyperException) -> int | None:
    context = getattr(error, "ctx", None)
    said = error.format_message()
    if said.startswith("Usage:"):  # a group that was called without a command: its help
        return None
    remedy = f"`{context.command_path} --help`" if context else NOT_KNOWN
    return _say(Fault.USAGE.code, said, remedy, ExitCode.USAGE)


def _setting(error: Exception) -> int:
    """Name the settings that are wrong, without their values: some are secrets."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return _unexpected(error)
    prefix = {"KafkaSettings": "KAFKA_", "StoreSettings": "CLICKHOUSE_"}.get(error.title, "VIGIL_")
    names = ", ".join(f"{prefix}{wrong['loc'][0]}".upper() for wrong in error.errors())
    return _say_of(Fault.SETTING, f"{names} missing or wrong")


def _unexpected(error: Exception) -> int:
    """Show where it happened; its text could hold a value of a patient."""
    frames = traceback.format_tb(error.__traceback__)
    print("".join(frames), end="", file=sys.stderr)
    what = f"unexpected {type(error).__name__}"
    return _say(Fault.UNEXPECTED.code, what, Fault.UNEXPECTED.remedy, ExitCode.CRASH)


def _say_of(fault: Fault, what: str) -> int:
    return _say(fault.code, what, fault.remedy, fault.number // 1000)


def _say(code: str, what: str, remedy: str, exit_code: int) -> int:
    print(f"vigil: {code} {what}\n  what to do: {remedy}", file=sys.stderr)
    return exit_code
