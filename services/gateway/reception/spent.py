"""Which signed tokens were shown: none counts twice before it ends."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from services.gateway.reception.answers import Rejected

MOST_REMEMBERED: Final = 200_000

Note = Callable[[str, int], None]
"""Told the name of a token that was used, and when it ends: seconds since the epoch."""


def _forgotten(name: str, ends_s: int) -> None:
    """Keep it in the memory alone."""


class Spent:
    """Remembers tokens until they end."""

    def __init__(
        self, before: Mapping[str, int] = MappingProxyType({}), note: Note = _forgotten
    ) -> None:
        """Begin.

        Args:
            before: names of tokens that an earlier life took, and when they end.
            note: told of each use, so that a later life knows it too.
        """
        self._ends_s, self._note = dict(before), note

    def spend(self, source: str, jti: str, *, ends_s: int, now_s: int) -> bool:
        """Take a token; False where it was taken before.

        Args:
            source: that signed it.
            jti: what the source calls it.
            ends_s: seconds since the epoch, when it ends.
            now_s: the real time.

        Raises:
            Rejected: there are too many (503): what cannot be remembered cannot be told from a
                replay.
        """
        name = _named(source, jti)
        if name in self._ends_s:
            return False
        if len(self._ends_s) >= MOST_REMEMBERED:
            self._ends_s = {n: ends for n, ends in self._ends_s.items() if ends > now_s}
            if len(self._ends_s) >= MOST_REMEMBERED:
                raise Rejected(503)
        self._ends_s[name] = ends_s
        self._note(name, ends_s)
        return True


def _named(source: str, jti: str) -> str:
    """Name a token: a hash, because its own name is a sender's word and goes to a disk."""
    return hashlib.sha256(f"{source}\0{jti}".encode("utf-8", "surrogatepass")).hexdigest()
