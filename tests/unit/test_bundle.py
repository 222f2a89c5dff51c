"""A bundle is what its manifest says, or it is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import noise, trained, write_bundle

from services.core.errors import CommandError, ExitCode
from services.core.features import FEATURES
from services.runtime.bundle import FILES, MANIFEST, digest_of, load
from services.training.pack import as_json


@pytest.fixture(scope="module")
def model() -> str:
    return trained()


@pytest.fixture
def bundle(tmp_path: Path, model: str) -> Path:
    return write_bundle(tmp_path / "noise" / "0.1.0", model)


def relist(path: Path, change: Callable[[dict[str, str]], None]) -> None:
    manifest = json.loads((path / MANIFEST).read_bytes())
    change(manifest["files"])
    (path / MANIFEST).write_bytes(as_json(manifest))


def refusal(path: Path, **expected: str) -> str:
    with pytest.raises(CommandError) as caught:
        load(path, digest=expected.get("digest"))
    assert caught.value.exit_code is ExitCode.CONFIGURATION
    return caught.value.what


def test_a_bundle_gives_back_what_was_packed(bundle: Path, model: str) -> None:
    loaded = load(bundle)
    assert (loaded.name, loaded.version) == ("noise", "0.1.0")
    assert loaded.digest == digest_of((bundle / MANIFEST).read_bytes())
    assert loaded.features == tuple(feature.name for feature in FEATURES)
    assert loaded.booster == model
    assert loaded.policy["threshold"] == 0.2
    assert load(bundle, digest=loaded.digest).digest == loaded.digest


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_in_any_file_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    assert name in refusal(bundle)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_or_linked_file_is_refused(bundle: Path, name: str) -> None:
    outside = bundle.parent / "outside"
    outside.write_bytes((bundle / name).read_bytes())
    (bundle / name).unlink()
    assert name in refusal(bundle)
    (bundle / name).symlink_to(outside)
    assert name in refusal(bundle)


def test_a_manifest_cannot_name_files_of_its_own(bundle: Path) -> None:
    (bundle.parent / "secret").write_bytes(b"x")
    relist(bundle, lambda files: files.update({"../secret": digest_of(b"x")}))
    assert "must list exactly" in refusal(bundle)


def test_a_manifest_must_list_every_file(bundle: Path) -> None:
    relist(bundle, lambda files: files.__delitem__("card.json"))
    assert "must list exactly" in refusal(bundle)


def test_another_digest_than_the_agreed_one_is_refused(bundle: Path) -> None:
    assert "is expected" in refusal(bundle, digest="0" * 64)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"schema": "vigil.bundle/2"}', b"\xff"])
def test_a_manifest_of_another_kind_is_refused(bundle: Path, text: bytes) -> None:
    (bundle / MANIFEST).write_bytes(text)
    refusal(bundle)


@pytest.mark.parametrize(
    "features",
    [
        {"features": [{"name": "ICULOS", "unit": "h"}]},
        {"features": [{"name": "HR_last", "unit": "1"}]},
        {"features": [{"name": "HR_last"}]},
    ],
)
def test_features_that_are_not_computed_are_refused(
    tmp_path: Path, model: str, features: dict[str, object]
) -> None:
    path = write_bundle(tmp_path / "noise" / "1", model, features_json=as_json(features))
    assert "feature" in refusal(path)


def test_a_bundle_may_use_some_features_in_an_order_of_its_own(tmp_path: Path, model: str) -> None:
    chosen = [FEATURES[9], FEATURES[2]]
    listed = as_json({"features": [feature._asdict() for feature in chosen]})
    loaded = load(write_bundle(tmp_path / "noise" / "2", model, features_json=listed))
    rows = noise(5)
    np.testing.assert_array_equal(loaded.select(rows), rows[:, [9, 2]])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert MANIFEST in refusal(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(bundle: Path) -> None:
    (bundle / "model.onnx").chmod(0)
    assert "cannot be read" in refusal(bundle)
