"""Who shows nothing, something wrong, expired or used before stays outside and is counted."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from doors import OBSERVATION, Gateway

from services.gateway.reception.answers import Rejected
from services.gateway.reception.credentials import Source
from services.gateway.reception.sources import Sources

KEY = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
PUBLIC = KEY.public_key().public_bytes_raw().hex()
TOKEN = "wonderful"  # noqa: S105 - of a test
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
NOW_S = 1_800_000_000
NOW = NOW_S * 1_000_000
SIGNER = Source(id="west", public_key=PUBLIC)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(
    key: Ed25519PrivateKey = KEY, *, alg: str = "EdDSA", kid: str = "west", **claims: Any
) -> str:
    said = {"jti": "1", "iat": NOW_S, "exp": NOW_S + 60, **claims}
    head = {"alg": alg, "kid": kid}
    parts = ".".join(encoded(json.dumps(part).encode()) for part in (head, said))
    return f"{parts}.{encoded(key.sign(parts.encode()))}"


def told(sources: Sources, token: str, at: int = NOW) -> str:
    with pytest.raises(Rejected) as found:
        sources.of({"authorization": f"Bearer {token}"}, at=at)
    assert found.value.status == 401
    assert token not in str(found.value)
    return found.value.reason


def test_a_token_ends_when_it_is_said_to() -> None:
    ends = datetime.fromtimestamp(NOW_S, UTC)
    sources = Sources([Source(id="west", token_sha256=DIGEST, token_expires_at=ends)])
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert sources.of(headers, at=NOW - 1).id == "west"
    assert told(sources, TOKEN) == "CREDENTIAL_EXPIRED"
    with pytest.raises(Rejected):
        sources.of(headers)  # whoever does not say when, is late


def test_a_signed_token_counts_once() -> None:
    sources = Sources([SIGNER])
    token = signed()
    assert sources.of({"authorization": f"Bearer {token}"}, at=NOW).id == "west"
    assert told(sources, token) == "CREDENTIAL_REPLAYED"
    assert sources.of({"authorization": f"Bearer {signed(jti='2')}"}, at=NOW).id == "west"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("a.b.c", "CREDENTIAL_WRONG"),
        ("...", "CREDENTIAL_WRONG"),
        (signed(Ed25519PrivateKey.from_private_bytes(b"o" * 32)), "CREDENTIAL_WRONG"),
        (signed(alg="none"), "CREDENTIAL_WRONG"),
        (signed(kid="east"), "CREDENTIAL_WRONG"),
        (signed()[:-3], "CREDENTIAL_WRONG"),
        (signed(jti=1), "CREDENTIAL_WRONG"),
        (signed(exp=NOW_S), "CREDENTIAL_EXPIRED"),
        (signed(exp=NOW_S + 86_400), "CREDENTIAL_EXPIRED"),  # it would live too long
        (signed(iat=NOW_S + 3600, exp=NOW_S + 3660), "CREDENTIAL_EXPIRED"),
    ],
)
def test_a_signed_token_that_is_wrong_or_late_is_refused(token: str, reason: str) -> None:
    assert told(Sources([SIGNER]), token) == reason


def test_a_refused_token_is_not_remembered_as_used() -> None:
    sources = Sources([SIGNER])
    token = signed(iat=NOW_S - 30, exp=NOW_S + 10)
    assert told(sources, token, at=NOW + 10_000_000) == "CREDENTIAL_EXPIRED"
    assert sources.of({"authorization": f"Bearer {token}"}, at=NOW).id == "west"


def test_a_certificate_does_as_well_as_a_token_and_another_does_not() -> None:
    sources = Sources([Source(id="west", certificate_sha256="c" * 64)])
    assert sources.of({}, certificate="c" * 64).id == "west"
    for shown in ("", "d" * 64):
        with pytest.raises(Rejected):
            sources.of({}, certificate=shown)


@pytest.mark.parametrize(
    "source",
    [
        Source(id="west", public_key="zz"),
        Source(id="west", certificate_sha256="CC" * 32),
        Source(id="west", timezone="Mars/Olympus"),
        Source(id="west", timezone="../../etc/passwd"),
        Source(id="west", token_sha256=DIGEST, token_expires_at=datetime(2026, 1, 1)),  # noqa: DTZ001 - refused
    ],
)
def test_a_list_that_cannot_be_kept_to_is_refused(source: Source) -> None:
    with pytest.raises(ValueError, match=r"token|zone"):
        Sources([source])


@pytest.mark.parametrize(
    ("token", "reason"), [("", "MISSING"), ("other", "WRONG"), (signed(exp=1, iat=0), "EXPIRED")]
)
def test_whoever_is_refused_is_counted_as_a_security_event(token: str, reason: str) -> None:
    gateway = Gateway([SIGNER], now=NOW)
    for path in ("/fhir", "/fhir/Observation", "/feedback", "/ticks"):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        assert gateway.ask("POST", path, json=OBSERVATION, headers=headers).status_code == 401
    counted = f'vigil_security_events_total{{reason="CREDENTIAL_{reason}",service="gateway"}} 4.0'
    assert counted in gateway.metrics.exposition().decode()
    assert not gateway.log
