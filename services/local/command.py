"""A command of `vigil` run as its own process, with an environment of its own."""

import subprocess
import sys
from collections.abc import Mapping


def vigil(arguments: tuple[str, ...], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Waits for `vigil ARGUMENTS` and gives its exit code, stdout and stderr."""
    line = [sys.executable, "-m", "services.cli.main", *arguments]
    return subprocess.run(line, env=dict(env), capture_output=True, text=True, check=False)  # noqa: S603 - our own command line
