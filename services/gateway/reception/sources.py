"""Who sends: the source of a request, by what it shows or, on loopback, by its word."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from services.gateway.reception import credentials
from services.gateway.reception.answers import Rejected
from services.gateway.reception.credentials import Credentials, Source
from services.gateway.reception.spent import Spent

SOURCE_ID: Final = re.compile(r"[a-z0-9-]{1,32}")
UNNAMED: Final = "local"
"""The source of a sender on loopback that gives no name."""
BEARER: Final = "bearer "
_NO_NAME: Final = re.compile(r"[^a-z0-9-]+")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: list[Source]


class Sources:
    """The senders that are known, or, without a list, whoever speaks on loopback."""

    def __init__(self, known: list[Source] | None, spent: Spent | None = None) -> None:
        """Remember who may send.

        Args:
            known: every source; None takes any name, and its word for its clock.
            spent: which signed tokens were used; without it none were yet.

        Raises:
            ValueError: an id or a digest is malformed, or stands twice.
        """
        _check(known or [])
        self._by_id = None if known is None else {source.id: source for source in known}
        self._credentials = Credentials(known or [], spent or Spent())
        self._guarded = any(source.credentials for source in known or [])

    @property
    def guarded(self) -> bool:
        """Whether every source must show a token or a certificate."""
        return self._guarded

    def of(self, headers: Mapping[str, str], *, at: int = 0, certificate: str = "") -> Source:
        """Say who sent a request with these headers (lower-case names).

        Args:
            headers: of the request.
            at: the real time, microseconds since the epoch; without it what ends has ended.
            certificate: SHA-256 of the client's certificate in hex; empty where none was verified.

        Raises:
            Rejected: nobody known (401), or a name that is none (400).
        """
        if self._guarded:
            shown = headers.get("authorization", "")
            token = shown[len(BEARER) :].strip() if shown.lower().startswith(BEARER) else ""
            return self._shown(token, certificate, at, "header Authorization")
        name = headers.get("vigil-source", UNNAMED)
        if not SOURCE_ID.fullmatch(name):
            raise Rejected(400, "header Vigil-Source", "HEADER")
        if self._by_id is None:
            return Source(id=name, clock="declared" if "vigil-time" in headers else "gateway")
        return self._listed(name, "header Vigil-Source")

    def of_facility(self, name: str, *, token: str, at: int, certificate: str) -> Source:
        """Say who sent a message of HL7 v2.

        Args:
            name: of the sending facility (MSH-4), which counts where nothing need be shown.
            token: of MSH-8.
            at: as for `of`.
            certificate: as for `of`.

        Raises:
            Rejected: nobody known (401).
        """
        if self._guarded:
            return self._shown(token, certificate, at, "MSH^1^8")
        plain = _NO_NAME.sub("-", name.lower()).strip("-")[:32] or UNNAMED
        return Source(id=plain) if self._by_id is None else self._listed(plain, "MSH^1^4")

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

    def _shown(self, token: str, certificate: str, at: int, place: str) -> Source:
        known = self._credentials.by_certificate(certificate) if certificate else None
        return known or self._credentials.by_token(token, at, place)

    def _listed(self, name: str, place: str) -> Source:
        if name not in (self._by_id or {}):
            raise Rejected(401, place)
        return (self._by_id or {})[name]


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
    credentials.check(known)
