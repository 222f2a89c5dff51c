"""Encryption of what authorized doors alone may read: AES-256-GCM, keys that rotate by epoch."""

import hmac
import stat
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, Self

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.core.errors import CommandError
from services.core.faults import Fault
from services.core.pseudonyms import parse_key

NONCE_BYTES: Final = 12
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MOST_WORDS: Final = 2  # of a line: a key and from when it seals
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.stdlib.get_logger()


class Epoch(NamedTuple):
    """A key, and the time from which it seals: µs since the epoch, by the gateway's clock."""

    key: bytes
    since: int = 0


class Vault:
    """Seals with the key of a time and opens with any; never changes.

    The nonce is a keyed hash of what is sealed, so that the same log gives the same bytes; equal
    texts under equal associated data therefore look equal, and nothing else does.
    """

    def __init__(self, keys: Sequence[bytes], since: Sequence[int] = ()) -> None:
        """Take the keys.

        Args:
            keys: 32 bytes each; the first is that of epoch 1.
            since: from when each seals, µs since the epoch, ascending; without it the last does.
        """
        self._keys, self._since = tuple(keys), tuple(since) or (0,) * len(keys)
        self._ciphers = [AESGCM(key) for key in keys]

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the keys of a file.

        Raises:
            CommandError: as `read_epochs`.
        """
        epochs = read_epochs(path)
        return cls([epoch.key for epoch in epochs], [epoch.since for epoch in epochs])

    @property
    def epoch(self) -> int:
        """The latest epoch, whether its time has come or not."""
        return len(self._keys)

    def epoch_at(self, moment: int) -> int:
        """Give the epoch that seals what was accepted at a moment, µs since the epoch.

        A log that is read again is sealed as it was, whatever epochs have begun meanwhile.
        """
        return max(1, bisect_right(self._since, moment))

    def extends(self, other: Self) -> bool:
        """Say whether it opens all that another does, and seals the same where both can."""
        many = other.epoch
        return (self._keys[:many], self._since[:many]) == (other._keys, other._since)

    def seal(self, plain: bytes, context: bytes, epoch: int | None = None) -> bytes:
        """Encrypt: nonce (12 bytes), ciphertext, tag (16 bytes).

        Args:
            plain: what to hide.
            context: associated data, without which it cannot be opened.
            epoch: of the key; the latest if none is given.
        """
        place = (epoch or self.epoch) - 1
        nonce = hmac.digest(self._keys[place], context + plain, "sha256")[:NONCE_BYTES]
        return nonce + self._ciphers[place].encrypt(nonce, plain, context)

    def open(self, epoch: int, sealed: bytes, context: bytes) -> bytes:
        """Decrypt what `seal` gave in an epoch.

        Raises:
            CommandError: no key of that epoch is here, or key, context or bytes are wrong.
        """
        if not 1 <= epoch <= len(self._keys):
            raise CommandError(
                f"No payload key of epoch {epoch} is in the key file.",
                "Use the key file that ingest used then: one key per line, oldest first.",
                Fault.NO_EPOCH,
            )
        nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._ciphers[epoch - 1].decrypt(nonce, text, context)
        except (InvalidTag, ValueError):
            raise CommandError(
                "The payload cannot be decrypted: it was sealed with another key, or was changed.",
                "Use the key file that ingest uses.",
                Fault.SEALED_OTHERWISE,
            ) from None


class KeyFile:
    """The vault of a key file, read again when the file has changed.

    A file that cannot be used, or that has lost or changed an epoch, is told and not taken: the
    keys that are known go on.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; raises CommandError as `read_epochs`."""
        self._path, self._stamp = path, _stamp(path)
        self._vault = Vault.from_file(path)

    def vault(self) -> Vault:
        """Give the keys of now; costs one look at the file's time."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            self._read_again()
        return self._vault

    def _read_again(self) -> None:
        try:
            found = Vault.from_file(self._path)
            if not found.extends(self._vault):
                raise _refused(self._path, "an epoch is gone or changed", "Put it back.")
        except CommandError as error:
            log.error("key file not taken", because=error.told)  # noqa: TRY400 - our logs tell no values
            return
        log.info("key file read", epoch=found.epoch)
        self._vault = found


def _stamp(path: Path) -> tuple[int, int, int]:
    """Tell files apart; zeros where there is none for now."""
    try:
        told = path.stat()
    except OSError:
        return 0, 0, 0
    return told.st_ino, told.st_ctime_ns, told.st_size


def read_keys(path: Path) -> list[bytes]:
    """Give the keys of a file alone; raises CommandError as `read_epochs`."""
    return [epoch.key for epoch in read_epochs(path)]


def read_pseudonym_key(path: Path) -> bytes:
    """Read the key of pseudonyms, which has no epochs.

    Raises:
        CommandError: as `read_epochs`, or there is more than one line.
    """
    first, *others = read_epochs(path)
    if others or first.since:
        why = "it holds a second key, and pseudonyms have one for ever"
        raise _refused(path, why, "Keep the first line: with another key every patient is new.")
    return first.key


def read_epochs(path: Path) -> list[Epoch]:
    """Read a key file, readable by its owner alone.

    A line is 64 hex digits, then perhaps the time from which this key seals, RFC 3339 in UTC;
    without one it is that of the line before. The first line is epoch 1, whatever comes after.

    Raises:
        CommandError: it is missing, empty, readable by others, or holds something else. Its
            content is not told.
    """
    try:
        open_to_others = path.stat().st_mode & _OTHERS
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        if open_to_others:
            raise _refused(path, "others than its owner may use it", f"Run: chmod 600 {path}")
        epochs = _epochs([words for words in lines if words])
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise _refused(path, why, "Create it with 64 random hex digits and mode 600.") from None
    except ValueError:
        remedy = "A line is 64 hex digits, from epoch 2 on with the time from which it holds."
        raise _refused(path, "it holds no key", remedy) from None
    if not epochs:
        raise _refused(path, "it is empty", "Write 64 hex digits into it.")
    return epochs


def line_of(epoch: Epoch) -> str:
    """Write an epoch as a key file holds it."""
    since = _START + timedelta(microseconds=epoch.since)
    return f"{epoch.key.hex()} {since.isoformat().replace('+00:00', 'Z')}\n"


def _epochs(lines: Sequence[Sequence[str]]) -> list[Epoch]:
    epochs: list[Epoch] = []
    for words in lines:
        before = epochs[-1].since if epochs else 0
        since = _moment(words[1]) if len(words) == _MOST_WORDS else before
        if len(words) > _MOST_WORDS or since < before:
            raise ValueError("epochs begin one after the other")
        epochs.append(Epoch(parse_key(words[0]), since))
    return epochs


def _moment(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() != timedelta(0):
        raise ValueError("a time of an epoch is in UTC")
    return (moment - _START) // timedelta(microseconds=1)


def _refused(path: Path, why: str, remedy: str) -> CommandError:
    return CommandError(f"Key file {path}: {why}.", remedy, Fault.KEY_FILE)
