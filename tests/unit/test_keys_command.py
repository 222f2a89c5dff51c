"""`vigil keys`: a new key is appended whole or not at all, and no key is ever shown."""

import json
import stat
from pathlib import Path

import pytest
from allowed import strangers
from typer.testing import CliRunner, Result

from services.cli import changing, identity
from services.cli.keyring import append
from services.cli.main import app
from services.core.errors import CommandError, Retry
from services.core.events import Change, Identity
from services.runtime.vault import Vault, read_epochs

OLD = bytes(range(32))
ASKED = ["--requested-by", "M. Okafor", "--reason", "a call"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "payload.key"
    file.write_text(OLD.hex())
    file.chmod(0o600)
    monkeypatch.setenv("VIGIL_PAYLOAD_KEY_FILE", str(file))
    monkeypatch.setenv("VIGIL_HOME", str(tmp_path))
    return file


def keys(*words: str) -> Result:
    return CliRunner().invoke(app, ["keys", *words])


def test_a_rotation_appends_a_key_that_seals_later(path: Path) -> None:
    done = keys("rotate", "--yes", "--after", "5", "--json")
    assert done.exit_code == 0, done.output
    first, second = read_epochs(path)
    assert (first.key, first.since) == (OLD, 0)
    assert second.key != OLD
    (told,) = json.loads(done.stdout)["epochs"]
    assert told["epoch"] == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_dry_run_changes_nothing(path: Path) -> None:
    before = path.read_text()
    done = keys("rotate", "--dry-run")
    assert (done.exit_code, path.read_text()) == (0, before)
    assert "epoch 2" in done.stdout


def test_nobody_at_the_terminal_is_asked_for_nothing(path: Path) -> None:
    before = path.read_text()
    assert keys("rotate").exit_code == 2
    assert path.read_text() == before


def test_a_key_waits_for_the_one_before(path: Path) -> None:
    assert keys("rotate", "--yes").exit_code == 0
    before = path.read_text()
    done = keys("rotate", "--yes")
    assert done.exit_code == 5
    assert "VGL-5502" in done.stderr
    assert path.read_text() == before


def test_no_key_is_ever_shown(path: Path) -> None:
    said = keys("rotate", "--yes").output + keys("list").output + keys("list", "--json").output
    assert "epoch 2" in said
    assert not [epoch for epoch in read_epochs(path) if epoch.key.hex() in said]


def test_two_hands_at_once_append_one_key(path: Path) -> None:
    shown = read_epochs(path)
    append(path, shown, 1)
    with pytest.raises(CommandError, match="changed meanwhile"):
        append(path, shown, 2)
    assert len(read_epochs(path)) == 2


def test_an_identity_needs_the_key_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIGIL_PAYLOAD_KEY_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("VIGIL_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["identity", "show", "a1" * 16, *ASKED])
    assert done.exit_code == 3
    assert "VGL-3501" in done.stderr


@pytest.mark.parametrize("word", ["", "a1", "zz" * 16, "a1" * 17])
def test_what_is_no_pseudonym_is_not_looked_for(word: str) -> None:
    assert CliRunner().invoke(app, ["identity", "show", word, *ASKED]).exit_code == 2


@pytest.mark.parametrize("asked", [[], ASKED[:2], ["--requested-by", " ", "--reason", "a call"]])
def test_who_does_not_say_who_asks_and_why_is_shown_nobody(asked: list[str]) -> None:
    assert CliRunner().invoke(app, ["identity", "show", "a1" * 16, *asked]).exit_code == 2


def test_nobody_is_shown_before_it_is_written_who_asked(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    name = bytes.fromhex("a1" * 16)
    sealed = Vault([OLD]).seal(b'{"source":"west","reference":"Patient/p-1"}', name, 1)
    monkeypatch.setenv("VIGIL_PAYLOAD_KEY_FILE", str(path))
    monkeypatch.setattr(
        identity, "_latest", lambda _: Identity(pseudonym=name, key_epoch=1, ciphertext=sealed)
    )

    def away(*_: object) -> None:
        raise Retry("Kafka: away")

    written: list[Change] = []
    command = ["identity", "show", name.hex(), *ASKED]
    monkeypatch.setattr(changing, "write", away)
    refused = CliRunner().invoke(app, command)
    assert (refused.exit_code, "p-1" in refused.output) == (4, False)
    monkeypatch.setattr(changing, "write", lambda change, *_: written.append(change))
    shown = CliRunner().invoke(app, command)
    assert (shown.exit_code, "Patient/p-1" in shown.stdout) == (0, True)
    (entry,) = written
    assert (entry.kind, entry.subject) == ("access", f"identity/{name.hex()}")
    assert (entry.requested_by, entry.reason) == ("M. Okafor", "a call")
    assert "p-1" not in str(entry)
    assert strangers("changes.v1", entry) == []
