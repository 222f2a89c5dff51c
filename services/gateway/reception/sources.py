"""Who sends: the source of a request, by its token or, on loopback, by its word."""

import hashlib
import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from services.gateway.reception.answers import Rejected

SOURCE_ID: Final = re.compile(r"[a-z0-9-]{1,32}")
UNNAMED: Final = "local"
"""The source of a sender on loopback that gives no name."""
SHA256_HEX: Final = re.compile(r"[0-9a-f]{64}")
BEARER: Final = "bearer "

Clock = Literal["gateway", "declared"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sender: whose clock says when its messages were received, and the digest of its token."""

    id: str
    clock: Clock = "gateway"
    token_sha256: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: list[Source]


class Sources:
    """The senders that are known, or, without a list, whoever speaks on loopback."""

    def __init__(self, known: list[Source] | None) -> None:
        """Remember who may send.

        Args:
            known: every source; None takes any name, and its word for its clock.

        Raises:
            ValueError: an id or a digest is malformed, or stands twice.
        """
        self._by_id = None if known is None else {source.id: source for source in known}
        self._by_token = {s.token_sha256: s for s in known or [] if s.token_sha256}
        _check(known or [])

    @property
    def guarded(self) -> bool:
        """Whether every source must show a token."""
        return bool(self._by_token)

    def of(self, headers: Mapping[str, str]) -> Source:
        """Say who sent a request with these headers (lower-case names).

        Raises:
            Rejected: nobody known (401), or a name that is none (400).
        """
        if self.guarded:
            return self._with_token(headers.get("authorization", ""))
        name = headers.get("vigil-source", UNNAMED)
        if not SOURCE_ID.fullmatch(name):
            raise Rejected(400, "header Vigil-Source", "HEADER")
        if self._by_id is None:
            return Source(id=name, clock="declared" if "vigil-time" in headers else "gateway")
        if name not in self._by_id:
            raise Rejected(401, "header Vigil-Source")
        return self._by_id[name]

    def declaring(self, source: Source) -> Source:
        """Take a source's word for its time.

        Raises:
            Rejected: it is listed, and its clock is the gateway's (403).
        """
        if self._by_id is None:
            return Source(id=source.id, clock="declared")
        if source.clock == "gateway":
            raise Rejected(403, "the clock of this source is the gateway's, which ticks for it")
        return source

    def _with_token(self, authorization: str) -> Source:
        if not authorization.lower().startswith(BEARER):
            raise Rejected(401, "header Authorization")
        token = authorization[len(BEARER) :].strip()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        if digest not in self._by_token:
            raise Rejected(401, "header Authorization")
        return self._by_token[digest]


def read_sources(text: bytes, *, is_json: bool) -> list[Source]:
    """Read a list of sources: `[[source]]` tables, or `{"source": […]}`.

    Raises:
        ValueError: the text is malformed.
    """
    decode = msgspec.json.decode if is_json else msgspec.toml.decode
    return decode(text, type=_File).source


def _check(known: list[Source]) -> None:
    if any(not SOURCE_ID.fullmatch(source.id) for source in known):
        raise ValueError("the id of a source is not 1 to 32 of a-z, 0-9 and -")
    digests = [source.token_sha256 for source in known if source.token_sha256]
    if any(not SHA256_HEX.fullmatch(digest) for digest in digests):
        raise ValueError("a token_sha256 is not 64 lower-case hex digits")
    if len({source.id for source in known}) < len(known) or len(set(digests)) < len(digests):
        raise ValueError("an id or a token stands twice")
    if digests and len(digests) < len(known):
        raise ValueError("some sources have a token and others have none")
