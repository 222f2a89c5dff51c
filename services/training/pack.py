"""Writes a bundle: its files, then the manifest that holds them together."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from services.core.errors import CommandError
from services.core.faults import Fault
from services.runtime.bundle import FILES, MANIFEST, SCHEMA, digest_of

_LIBRARIES: Final = ("lightgbm", "numpy", "onnx", "onnxmltools", "polars")
_ROOT: Final = Path(__file__).parents[2]
_CODE: Final = (
    "services/core/features/*.py",
    "services/core/support.py",
    "services/core/vitals.py",
    "services/core/stats/*.py",
    "services/training/*.py",
    "services/training/*.toml",
)


def pack(path: Path, contents: dict[str, bytes], facts: dict[str, Any]) -> str:
    """Write the files of a bundle and its manifest; give the bundle's digest.

    Args:
        path: `<name>/<version>`, made if need be.
        contents: every one of FILES.
        facts: what the manifest states beside the digests.

    Raises:
        CommandError: the folder cannot be written (CONFIGURATION).
    """
    manifest = as_json(
        {
            "schema": SCHEMA,
            **facts,
            "files": {name: digest_of(contents[name]) for name in FILES},
        }
    )
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, content in {**contents, MANIFEST: manifest}.items():
            (path / name).write_bytes(content)
    except OSError as error:
        raise CommandError(
            f"The bundle cannot be written to {path}.",
            "Give a folder with room that you may write to.",
            Fault.UNWRITABLE,
        ) from error
    return digest_of(manifest)


def as_json(value: dict[str, Any]) -> bytes:
    """Indented JSON in the order given; refuses NaN, which JSON has not."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def provenance() -> dict[str, Any]:
    """The code and the libraries that made a bundle.

    The commit is where the tree stood, and `unknown` outside a git tree; it alone makes the
    manifest differ between commits. `code_sha256` covers what was in fact run.
    """
    return {
        "git_commit": _commit(),
        "code_sha256": _code_digest(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the person uses
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()


def _code_digest() -> str:
    whole = hashlib.sha256()
    for file in sorted(file for pattern in _CODE for file in _ROOT.glob(pattern)):
        whole.update(file.relative_to(_ROOT).as_posix().encode() + b"\0")
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()
