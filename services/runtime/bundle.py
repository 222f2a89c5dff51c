"""The model bundle on disk: read whole, held to its digests, frozen."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import CommandError, ExitCode
from services.core.features import FEATURES

MANIFEST: Final = "MANIFEST.json"
SCHEMA: Final = "vigil.bundle/1"
FILES: Final = (
    "model.onnx",
    "model.txt",
    "features.json",
    "reference.json",
    "policy.json",
    "card.json",
)
"""The files of a bundle beside its manifest; there are no others."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model with all that is needed to serve, explain and judge it.

    Attributes:
        name: such as `sepsis`.
        version: such as `1.0.0`.
        digest: sha256 of the manifest, 64 hex digits; the model's identity everywhere.
        features: names of the model's F inputs, in order.
        columns: (F,) their places among the columns of `core.features.compute`.
        onnx: the graph from features to the calibrated probability.
        booster: the trees as LightGBM text, for contributions.
        policy: the default policy, `policy.json`.
        reference: the training population, `reference.json`.
        card: the model card, `card.json`.
        manifest: `MANIFEST.json`.
    """

    name: str
    version: str
    digest: str
    features: tuple[str, ...]
    columns: NDArray[np.intp]
    onnx: bytes
    booster: str
    policy: dict[str, Any]
    reference: dict[str, Any]
    card: dict[str, Any]
    manifest: dict[str, Any]

    def select(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pick the model's inputs, (N, F), from what `core.features.compute` gives."""
        if len(self.columns) == len(FEATURES) and np.all(np.diff(self.columns) == 1):
            return rows
        return rows[:, self.columns]


def load(path: Path, *, digest: str | None = None) -> Bundle:
    """Read a bundle and hold every file to the manifest; blocks on the disk.

    Args:
        path: the bundle's folder.
        digest: the digest that is expected, if one was agreed on.

    Raises:
        CommandError: the bundle is incomplete, was changed, is not the expected one, or has
            features that this program does not compute (CONFIGURATION).
    """
    raw = _read(path, MANIFEST)
    found = hashlib.sha256(raw).hexdigest()
    if digest is not None and digest != found:
        raise _refused(path, f"has digest {found[:12]} where {digest[:12]} is expected")
    manifest = _json(path, MANIFEST, raw)
    contents = _verified(path, manifest)
    features = _json(path, "features.json", contents["features.json"])
    try:
        return Bundle(
            name=str(manifest["name"]),
            version=str(manifest["version"]),
            digest=found,
            features=tuple(str(feature["name"]) for feature in features["features"]),
            columns=_columns(path, features),
            onnx=contents["model.onnx"],
            booster=contents["model.txt"].decode(),
            policy=_json(path, "policy.json", contents["policy.json"]),
            reference=_json(path, "reference.json", contents["reference.json"]),
            card=_json(path, "card.json", contents["card.json"]),
            manifest=manifest,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(path, "lacks something that every bundle states") from error


def digest_of(contents: bytes) -> str:
    """The digest under which the manifest lists a file: sha256, hex."""
    return hashlib.sha256(contents).hexdigest()


def _verified(path: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    if manifest.get("schema") != SCHEMA:
        raise _refused(path, f"is not of schema {SCHEMA}")
    listed = manifest.get("files")
    if not isinstance(listed, dict) or set(listed) != set(FILES):
        raise _refused(path, f"must list exactly the files {', '.join(FILES)}")
    contents = {name: _read(path, name) for name in FILES}
    for name, content in contents.items():
        if digest_of(content) != listed[name]:
            raise _refused(path, f"has a {name} that does not match its manifest")
    return contents


def _columns(path: Path, features: dict[str, Any]) -> NDArray[np.intp]:
    """Where the program computes each feature; name and unit must both be known."""
    place = {(known.name, known.unit): column for column, known in enumerate(FEATURES)}
    try:
        return np.array([place[each["name"], each["unit"]] for each in features["features"]])
    except KeyError as error:
        raise _refused(path, "has a feature that this version does not compute") from error


def _read(path: Path, name: str) -> bytes:
    file = path / name
    # A link could lead out of the folder, and change after the digest was taken.
    if file.is_symlink() or not file.is_file():
        raise _refused(path, f"has no file {name}")
    try:
        return file.read_bytes()
    except OSError as error:
        raise _refused(path, f"has a {name} that cannot be read") from error


def _json(path: Path, name: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise _refused(path, f"has a {name} that is not JSON") from error
    if not isinstance(value, dict):
        raise _refused(path, f"has a {name} that is not an object")
    return value


def _refused(path: Path, why: str) -> CommandError:
    return CommandError(
        f"The model bundle {path.name} {why}.",
        "Restore the bundle from where it was released, or train it again.",
        ExitCode.CONFIGURATION,
    )
