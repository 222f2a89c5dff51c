"""What a source shows: a token, a signed token that counts once, or a certificate."""

import base64
import hashlib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.gateway.reception.answers import Rejected
from services.gateway.reception.spent import Spent
from services.gateway.reception.times import microseconds

SHA256_HEX: Final = re.compile(r"[0-9a-f]{64}")
LIFETIME_S: Final = 300
"""A signed token lives at most as long, and is remembered until it ends."""
MISSING: Final = "CREDENTIAL_MISSING"
WRONG: Final = "CREDENTIAL_WRONG"
EXPIRED: Final = "CREDENTIAL_EXPIRED"
REPLAYED: Final = "CREDENTIAL_REPLAYED"
_SIGNED_PARTS: Final = 3
_SECOND_US: Final = 1_000_000

Clock = Literal["gateway", "declared"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sender: whose clock says when its messages were received, and what it has to show.

    Attributes:
        id: its name.
        clock: `declared` where it tells the time itself.
        token_sha256: digest of its token, in hex.
        token_expires_at: when the token ends; None for never.
        public_key: Ed25519, in hex, with which it signs tokens of its own.
        certificate_sha256: digest of its client certificate (DER), in hex.
        timezone: of its clocks, such as `Europe/Berlin`, for times of HL7 v2 without an offset.
    """

    id: str
    clock: Clock = "gateway"
    token_sha256: str = ""
    token_expires_at: datetime | None = None
    public_key: str = ""
    certificate_sha256: str = ""
    timezone: str = ""

    @property
    def credentials(self) -> list[str]:
        """Whatever tells it from others; each in 64 hex digits."""
        all_of_them = (self.token_sha256, self.public_key, self.certificate_sha256)
        return [credential for credential in all_of_them if credential]

    def zone(self) -> ZoneInfo | None:
        """Give the zone of its clocks, if it is known."""
        return ZoneInfo(self.timezone) if self.timezone else None


class _Head(msgspec.Struct):
    alg: str
    kid: str


class _Claims(msgspec.Struct):
    jti: str
    exp: int
    iat: int


class Credentials:
    """Knows sources by what they show."""

    def __init__(self, known: Iterable[Source], spent: Spent) -> None:
        self._tokens = {source.token_sha256: source for source in known if source.token_sha256}
        self._certificates = {s.certificate_sha256: s for s in known if s.certificate_sha256}
        self._signers = {
            s.id: (s, Ed25519PublicKey.from_public_bytes(bytes.fromhex(s.public_key)))
            for s in known
            if s.public_key
        }
        self._spent = spent

    def by_certificate(self, digest: str) -> Source | None:
        """Give the source with this certificate."""
        return self._certificates.get(digest)

    def by_token(self, token: str, at: int, place: str) -> Source:
        """Give the source that shows a token.

        Args:
            token: as shown.
            at: the real time, microseconds since the epoch.
            place: where it was shown.

        Raises:
            Rejected: it is wrong, expired or replayed (401).
        """
        if not token:
            raise Rejected(401, place)
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        source = self._tokens.get(digest)
        if source is None:
            return self._by_signed(token, at, place)
        ends = source.token_expires_at
        if ends is not None and not 0 < at < microseconds(ends):
            raise Rejected(401, place, EXPIRED)
        return source

    def _by_signed(self, token: str, at: int, place: str) -> Source:
        try:
            source, claims = self._verified(token)
        except (ValueError, KeyError, InvalidSignature):
            raise Rejected(401, place, WRONG) from None
        now_s = at // _SECOND_US
        if not claims.iat - LIFETIME_S <= now_s < claims.exp <= claims.iat + LIFETIME_S:
            raise Rejected(401, place, EXPIRED)
        if not self._spent.spend(source.id, claims.jti, ends_s=claims.exp, now_s=now_s):
            raise Rejected(401, place, REPLAYED)
        return source

    def _verified(self, token: str) -> tuple[Source, _Claims]:
        parts = token.split(".")
        if len(parts) != _SIGNED_PARTS:
            raise ValueError("not signed")
        head, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in parts)
        stated = msgspec.json.decode(head, type=_Head)
        source, key = self._signers[stated.kid]
        if stated.alg != "EdDSA":
            raise ValueError("another algorithm")
        key.verify(signature, token.rpartition(".")[0].encode())
        return source, msgspec.json.decode(claims, type=_Claims)


def check(known: list[Source]) -> None:
    """Require that no source can be mistaken for another.

    Raises:
        ValueError: it could.
    """
    credentials = [credential for source in known for credential in source.credentials]
    if any(not SHA256_HEX.fullmatch(credential) for credential in credentials):
        raise ValueError(
            "a token_sha256, public_key or certificate_sha256 is not 64 lower-case hex digits"
        )
    if len({s.id for s in known}) < len(known) or len(set(credentials)) < len(credentials):
        raise ValueError("an id or a token stands twice")
    if credentials and any(not source.credentials for source in known):
        raise ValueError("some sources have a token or a certificate and others have neither")
    for source in known:
        _check_time(source)


def _check_time(source: Source) -> None:
    if source.token_expires_at is not None and source.token_expires_at.tzinfo is None:
        raise ValueError("a token_expires_at has no offset")
    try:
        source.zone()
    except (OSError, ValueError, KeyError):
        raise ValueError("the timezone of a source is not known") from None
