import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.keyring import append
from services.core.errors import CommandError, ExitCode
from services.runtime.vault import (
    NONCE_BYTES,
    Epoch,
    KeyFile,
    Vault,
    line_of,
    read_epochs,
    read_keys,
    read_pseudonym_key,
)

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


SECONDS = st.integers(min_value=0, max_value=4_000_000_000).map(lambda second: second * 1_000_000)
KEYS = st.binary(min_size=32, max_size=32)
EPOCHS = st.lists(st.tuples(KEYS, SECONDS), min_size=1, max_size=5).map(
    lambda pairs: [
        Epoch(key, since if place else 0)
        for place, (key, since) in enumerate(sorted(pairs, key=lambda pair: pair[1]))
    ]
)


def vault_of(epochs: list[Epoch]) -> Vault:
    return Vault([epoch.key for epoch in epochs], [epoch.since for epoch in epochs])


@given(EPOCHS)
def test_a_key_file_says_what_was_written_into_it(epochs: list[Epoch]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = key_file(Path(folder), "".join(map(line_of, epochs)))
        assert read_epochs(path) == epochs


@given(EPOCHS, st.lists(st.tuples(SECONDS, st.binary(max_size=20)), max_size=8))
def test_a_log_read_again_after_any_rotation_is_sealed_to_the_same_bytes_and_opens(
    epochs: list[Epoch], records: list[tuple[int, bytes]]
) -> None:
    last = vault_of(epochs)
    for count in range(1, len(epochs) + 1):
        then = vault_of(epochs[:count])
        assert last.extends(then)
        until = epochs[count].since if count < len(epochs) else 1 << 62
        for at, plain in records:
            if at >= until:
                continue  # the next key was there by then
            epoch = then.epoch_at(at)
            assert last.epoch_at(at) == epoch
            sealed = then.seal(plain, b"c", epoch)
            assert last.seal(plain, b"c", epoch) == sealed
            assert last.open(epoch, sealed, b"c") == plain


@given(EPOCHS, SECONDS)
def test_an_epoch_seals_from_its_time_until_the_next_one(epochs: list[Epoch], at: int) -> None:
    begun = [number for number, epoch in enumerate(epochs, 1) if epoch.since <= at]
    assert vault_of(epochs).epoch_at(at) == max(begun)


@pytest.mark.parametrize(
    "second",
    [
        "yesterday",
        "2026-01-01T00:00:00",  # of no zone
        "2026-01-01T00:00:00+01:00",
        "2026-01-01T00:00:00Z for good",
        "1969-01-01T00:00:00Z",  # before the first
    ],
)
def test_an_epoch_that_begins_at_no_time_is_refused(tmp_path: Path, second: str) -> None:
    with pytest.raises(CommandError, match="it holds no key"):
        read_epochs(key_file(tmp_path, f"{OLD.hex()}\n{NEW.hex()} {second}\n"))


def test_a_running_service_takes_up_a_new_epoch(tmp_path: Path) -> None:
    path = key_file(tmp_path, OLD.hex() + "\n")
    keys = KeyFile(path)
    before = keys.vault()
    assert keys.vault() is before
    known = append(path, read_epochs(path), 5_000_000)
    assert [keys.vault().epoch_at(at) for at in (0, 4_999_999, 5_000_000)] == [1, 1, 2]
    assert [epoch.since for epoch in known] == [0, 5_000_000]
    assert keys.vault().extends(before)


@pytest.mark.parametrize("spoiled", ["", "secret", NEW.hex(), None])
def test_a_key_file_that_is_spoiled_takes_no_key_from_a_running_service(
    tmp_path: Path, spoiled: str | None
) -> None:
    path = key_file(tmp_path, OLD.hex())
    keys = KeyFile(path)
    before = keys.vault()
    path.unlink()
    if spoiled is not None:
        key_file(tmp_path, spoiled)
    assert keys.vault() is before
    path.unlink(missing_ok=True)
    key_file(tmp_path, f"{OLD.hex()}\n{NEW.hex()}\n")
    assert keys.vault().epoch == 2


def test_the_key_of_pseudonyms_has_one_line(tmp_path: Path) -> None:
    assert read_pseudonym_key(key_file(tmp_path, OLD.hex() + "\n")) == OLD
    for text in (f"{OLD.hex()}\n{NEW.hex()}", f"{OLD.hex()} 2026-01-01T00:00:00Z"):
        with pytest.raises(CommandError, match="second key, and pseudonyms have one") as caught:
            read_pseudonym_key(key_file(tmp_path, text))
        assert caught.value.exit_code is ExitCode.CONFIGURATION
