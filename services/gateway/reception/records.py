"""The record that a request becomes: its bytes untouched, what is known about them in headers."""

import hmac
import re
from collections.abc import Callable
from typing import Final

import msgspec

from services.runtime.ports import Output

TOPIC: Final = "fhir.raw.v1"
TICK: Final = "application/vnd.vigil.tick+json"
KEY_BYTES: Final = 16
RANDOM_BYTES: Final = 10

# References of subjects; no parse, because only the choice of a partition hangs on them.
_SUBJECT: Final = re.compile(
    rb'"(?:subject|patient)"\s*:\s*\{[^{}]{0,512}?"reference"\s*:\s*"([^"\\]{1,256})"'
)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a body; times are microseconds since the epoch.

    `received_at` is event-world time, `accepted_at` the real clock.
    """

    ingest_id: str
    source: str
    content_type: str
    received_at: int
    accepted_at: int

    def around(self, body: bytes, *, key: bytes) -> Output:
        """Make the record of a body."""
        headers = (
            ("content-type", self.content_type.encode()),
            ("source", self.source.encode()),
            ("received_at", b"%d" % self.received_at),
            ("accepted_at", b"%d" % self.accepted_at),
            ("ingest_id", self.ingest_id.encode()),
        )
        return Output(TOPIC, key, body, headers=headers)


def ingest_id(accepted_at: int, randomness: Callable[[int], bytes]) -> str:
    """Name a record: 48 bits of milliseconds, then 80 random bits, as 32 hex digits."""
    return f"{accepted_at // 1000 % (1 << 48):012x}{randomness(RANDOM_BYTES).hex()}"


def affinity(body: bytes, key: bytes, *, source: str) -> bytes | None:
    """Give what brings one patient's messages together, or None for no subject or several.

    Args:
        body: of the request.
        key: the pseudonym key; nobody without it learns the subject.
        source: its id.
    """
    first = None
    for found in _SUBJECT.finditer(body):
        if first is not None and found[1] != first:
            return None
        first = found[1]
    if first is None:
        return None
    message = b"affinity\x00" + source.encode() + b"\x00" + first
    return hmac.digest(key, message, "sha256")[:KEY_BYTES]
