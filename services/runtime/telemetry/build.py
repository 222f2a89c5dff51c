"""Which program is running: its version, its revision, its Python."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

import msgspec


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """Which program this is; what cannot be found out is `unknown`."""

    service: str
    version: str
    revision: str
    python: str

    @classmethod
    def of(cls, service: str) -> Self:
        """Ask the installed package, and git if the program runs from a checkout."""
        return cls(
            service=service,
            version=_version(),
            revision=_revision(),
            python=platform.python_version(),
        )


def _version() -> str:
    try:
        return version("vigil")
    except PackageNotFoundError:
        return "unknown"


def _revision() -> str:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],  # noqa: S607 - git is where PATH says
            cwd=Path(__file__).parent,
            capture_output=True,
            check=True,
            timeout=2,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.decode().strip()
