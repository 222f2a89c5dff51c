"""Encryption of what authorized doors alone may read: AES-256-GCM, keys that rotate by epoch."""

import hmac
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.core.errors import CommandError
from services.core.faults import Fault
from services.core.pseudonyms import parse_key

NONCE_BYTES: Final = 12
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Vault:
    """Seals with the latest key and opens with any.

    The nonce is a keyed hash of what is sealed, so that the same log gives the same bytes; equal
    texts under equal associated data therefore look equal, and nothing else does.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Take the keys.

        Args:
            keys: 32 bytes each; the first is that of epoch 1, the last seals.
        """
        self._keys = tuple(keys)
        self._ciphers = [AESGCM(key) for key in keys]

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the keys of a file: one per line, the first is that of epoch 1.

        Raises:
            CommandError: as `read_keys`.
        """
        return cls(read_keys(path))

    @property
    def epoch(self) -> int:
        """Epoch of the key that seals."""
        return len(self._keys)

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt: nonce (12 bytes), ciphertext, tag (16 bytes).

        Args:
            plain: what to hide.
            context: associated data, without which it cannot be opened.
        """
        nonce = hmac.digest(self._keys[-1], context + plain, "sha256")[:NONCE_BYTES]
        return nonce + self._ciphers[-1].encrypt(nonce, plain, context)

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


def read_keys(path: Path) -> list[bytes]:
    """Read a key file: 64 hex digits per line, readable by its owner alone.

    Raises:
        CommandError: it is missing, empty, readable by others, or holds something else. Its
            content is not told.
    """
    try:
        open_to_others = path.stat().st_mode & _OTHERS
        lines = path.read_text(encoding="ascii").split()
        if open_to_others:
            raise _refused(path, "others than its owner may use it", f"Run: chmod 600 {path}")
        if not lines:
            raise _refused(path, "it is empty", "Write 64 hex digits into it.")
        return [parse_key(line) for line in lines]
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise _refused(path, why, "Create it with 64 random hex digits and mode 600.") from None
    except ValueError:
        raise _refused(path, "it holds no key", "A key is 64 hex digits.") from None


def _refused(path: Path, why: str, remedy: str) -> CommandError:
    return CommandError(f"Key file {path}: {why}.", remedy, Fault.KEY_FILE)
