from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import CommandError, ExitCode
from services.runtime.vault import NONCE_BYTES, Vault, read_keys

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
VAULT = Vault([OLD])


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "key.hex"
    path.write_text(text)
    path.chmod(mode)
    return path


@given(plain=st.binary(), context=st.binary())
def test_what_was_sealed_opens_to_the_same(plain: bytes, context: bytes) -> None:
    assert VAULT.open(1, VAULT.seal(plain, context), context) == plain


def test_the_same_log_gives_the_same_bytes_and_another_text_another_nonce() -> None:
    assert VAULT.seal(b"a", b"c") == VAULT.seal(b"a", b"c")
    assert VAULT.seal(b"a", b"c")[:NONCE_BYTES] != VAULT.seal(b"b", b"c")[:NONCE_BYTES]
    assert VAULT.seal(b"a", b"c")[:NONCE_BYTES] != VAULT.seal(b"a", b"d")[:NONCE_BYTES]


def test_what_is_sealed_does_not_show() -> None:
    assert b"Zebediah" not in VAULT.seal(b"Zebediah" * 100, b"context")


def test_after_a_rotation_the_new_key_seals_and_the_old_one_still_opens() -> None:
    sealed = VAULT.seal(b"text", b"c")
    rotated = Vault([OLD, NEW])
    assert rotated.epoch == 2
    assert rotated.open(1, sealed, b"c") == b"text"
    assert rotated.seal(b"text", b"c") != sealed
    assert rotated.open(2, rotated.seal(b"text", b"c"), b"c") == b"text"


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_epoch_without_a_key_is_said_so(epoch: int) -> None:
    with pytest.raises(CommandError, match="epoch") as caught:
        VAULT.open(epoch, VAULT.seal(b"", b""), b"")
    assert caught.value.exit_code is ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    ("sealed", "context"),
    [(VAULT.seal(b"a", b"c"), b"d"), (VAULT.seal(b"a", b"c")[:-1], b"c"), (b"", b"c")],
)
def test_what_was_changed_does_not_open(sealed: bytes, context: bytes) -> None:
    with pytest.raises(CommandError) as caught:
        VAULT.open(1, sealed, context)
    assert caught.value.exit_code is ExitCode.REFUSED


def test_each_line_of_a_key_file_is_the_key_of_an_epoch(tmp_path: Path) -> None:
    assert read_keys(key_file(tmp_path, f"{OLD.hex()}\n{NEW.hex()}\n")) == [OLD, NEW]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(CommandError, match="others") as caught:
        read_keys(key_file(tmp_path, OLD.hex(), mode))
    assert caught.value.exit_code is ExitCode.CONFIGURATION
    assert "chmod 600" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "secret", OLD.hex() + "\nsecret", "ä"])
def test_a_file_that_holds_no_key_is_refused_without_its_content(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(CommandError) as caught:
        read_keys(key_file(tmp_path, text))
    assert caught.value.exit_code is ExitCode.CONFIGURATION
    assert "secret" not in caught.value.what + caught.value.remedy


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        read_keys(tmp_path / "none.hex")
