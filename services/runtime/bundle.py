"""The model bundle on disk: read whole, held to its digests, frozen."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.core.errors import CommandError
from services.core.faults import Fault
from services.core.features import FEATURES
from services.core.policy import Policy, complaints
from services.core.support import Limits, read_limits

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


class Unfit(StrEnum):
    """Why a bundle cannot be used, as logs and metrics tell it."""

    MISSING = "missing"  # no such bundle, or one of its files is not there
    MANIFEST = "manifest"  # it is none, or does not say what every bundle says
    DIGEST = "digest"  # not the expected bundle, or a file was changed
    FEATURES = "features"  # one that this program does not compute
    POLICY = "policy"
    SUPPORT = "support"  # no rule of which patients it can speak of, though it states one
    GRAPH = "graph"  # ONNX Runtime cannot load it
    OUTSIDE_DATA = "outside_data"  # the graph refers to a file that no digest covers
    INTERFACE = "interface"  # other inputs than the bundle lists, or no score
    OUTPUT = "output"  # what is no probability
    BOOSTER = "booster"  # LightGBM cannot load it, or its contributions do not add up


FAULTS: Final = {
    Unfit.POLICY: Fault.POLICY,
    Unfit.GRAPH: Fault.MODEL_GRAPH,
    Unfit.OUTSIDE_DATA: Fault.MODEL_GRAPH,
    Unfit.INTERFACE: Fault.MODEL_GRAPH,
    Unfit.OUTPUT: Fault.MODEL_GRAPH,
    Unfit.BOOSTER: Fault.MODEL_GRAPH,
}
"""What people are told of it; all else is a fault of the bundle."""


class BundleRefused(CommandError):  # noqa: N818 - a refusal is an answer, not a fault of ours
    """A bundle cannot be used.

    Args:
        name: of the bundle, for the text.
        why: what is wrong, the rest of the sentence.
        unfit: the same for logs and metrics.
    """

    def __init__(self, name: str, why: str, unfit: Unfit) -> None:
        remedy = "Restore the bundle from where it was released, or train it again."
        super().__init__(
            f"The model bundle {name} {why}.", remedy, FAULTS.get(unfit, Fault.BUNDLE)
        )
        self.unfit = unfit


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
        return rows if self._takes_all else rows[:, self.columns]

    @cached_property
    def _takes_all(self) -> bool:
        return np.array_equal(self.columns, np.arange(len(FEATURES)))


def load(path: Path, *, digest: str | None = None) -> Bundle:
    """Read a bundle and hold every file to the manifest; blocks on the disk.

    Args:
        path: the bundle's folder.
        digest: the digest that is expected, if one was agreed on.

    Raises:
        BundleRefused: the bundle is incomplete, was changed, is not the expected one, or has
            features that this program does not compute.
    """
    raw = _read(path, MANIFEST)
    found = hashlib.sha256(raw).hexdigest()
    if digest is not None and digest != found:
        why = f"has digest {found[:12]} where {digest[:12]} is expected"
        raise _refused(path, why, Unfit.DIGEST)
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


def find(models: Path, name: str, digest: str) -> Path:
    """Say in which folder of `models/<name>` a bundle lies; its name is no part of the digest.

    Args:
        models: where bundles are kept, `<name>/<version>` each.
        name: of the model; no path.
        digest: of the bundle.

    Raises:
        BundleRefused: it is not there (MISSING).
    """
    for manifest in sorted((models / name).glob(f"*/{MANIFEST}")):
        if digest_of(_read(manifest.parent, MANIFEST)) == digest:
            return manifest.parent
    raise BundleRefused(name, f"with digest {digest[:12]} is not among the models", Unfit.MISSING)


def policy_of(loaded: Bundle) -> Policy:
    """Read a bundle's own policy.

    Raises:
        BundleRefused: it is none.
    """
    name = f"{loaded.name} {loaded.version}"
    try:
        policy = msgspec.convert(loaded.policy, Policy)
    except msgspec.ValidationError as error:
        raise BundleRefused(name, f"has no policy: {error}", Unfit.POLICY) from error
    if found := complaints(policy):
        raise BundleRefused(
            name, f"has a policy that contradicts itself: {found[0]}", Unfit.POLICY
        )
    return policy


def support_of(loaded: Bundle) -> Limits | None:
    """Read which patients the model can speak of; None where the bundle states no rule.

    Raises:
        BundleRefused: what it states is none.
    """
    try:
        return read_limits(loaded.reference)
    except ValueError as error:
        name = f"{loaded.name} {loaded.version}"
        raise BundleRefused(
            name, f"states a support that is none: {error}", Unfit.SUPPORT
        ) from error


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
            why = f"has a {name} that does not match its manifest"
            raise _refused(path, why, Unfit.DIGEST)
    return contents


def _columns(path: Path, features: dict[str, Any]) -> NDArray[np.intp]:
    """Where the program computes each feature; name and unit must both be known."""
    place = {(known.name, known.unit): column for column, known in enumerate(FEATURES)}
    try:
        return np.array([place[each["name"], each["unit"]] for each in features["features"]])
    except KeyError as error:
        why = "has a feature that this version does not compute"
        raise _refused(path, why, Unfit.FEATURES) from error


def _read(path: Path, name: str) -> bytes:
    file = path / name
    # A link could lead out of the folder, and change after the digest was taken.
    if file.is_symlink() or not file.is_file():
        raise _refused(path, f"has no file {name}", Unfit.MISSING)
    try:
        return file.read_bytes()
    except OSError as error:
        raise _refused(path, f"has a {name} that cannot be read", Unfit.MISSING) from error


def _json(path: Path, name: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise _refused(path, f"has a {name} that is not JSON") from error
    if not isinstance(value, dict):
        raise _refused(path, f"has a {name} that is not an object")
    return value


def _refused(path: Path, why: str, unfit: Unfit = Unfit.MANIFEST) -> BundleRefused:
    return BundleRefused(path.name, why, unfit)
