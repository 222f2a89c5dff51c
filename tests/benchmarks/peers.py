"""Runs the peers of scoring as processes; Quix Streams in an environment of its own."""

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
QUIX = ("quixstreams==3.28.1", "onnxruntime==1.31.1", "msgspec==0.22.0")
PATIENCE_S = 600


class Measured(NamedTuple):
    events_per_s: float
    cpu_us: float


def run(python: Path, script: str, arguments: Sequence[str]) -> Measured | None:
    """Let a peer work; None, and a word of it, where it fails."""
    done = subprocess.run(
        [python, HERE / script, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(f"{script} failed: {done.stderr[-500:]}\n")
        return None
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def faust(arguments: Sequence[str]) -> Measured | None:
    """Faust as it comes, in the environment of Vigil."""
    return run(Path(sys.executable), "peer_faust.py", arguments)


def quix(kept: str, arguments: Sequence[str], cache: Path) -> Measured | None:
    """Quix Streams, exactly-once, its state in a `dict` or its `store`.

    None where it cannot be installed.
    """
    python = environment(cache / QUIX[0].replace("==", "-"))
    return None if python is None else run(python, "peer_quix.py", [kept, *arguments])


def environment(folder: Path) -> Path | None:
    """Make an environment with QUIX in it, once; None, and a word of it, where that fails."""
    python, whole = folder / "bin" / "python", folder / "whole"
    if whole.exists():
        return python
    sys.stderr.write(f"installing {QUIX[0]}\n")
    venv.create(folder, with_pip=True, clear=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *QUIX]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"skipped: {QUIX[0]} cannot be installed here\n")
        return None
    whole.touch()
    return python
