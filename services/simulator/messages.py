"""What the simulated hospital sends: one request body and what must be known to send it."""

from datetime import UTC, datetime
from typing import Final

import msgspec

START: Final = datetime(2026, 1, 5, tzinfo=UTC)
"""Event-world time at which patients begin to arrive unless told otherwise: a Monday."""
FHIR: Final = "/fhir"
"""Where the gateway takes messages about patients."""
OUTCOMES: Final = "/outcomes"
"""Where the gateway takes what became of patients."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the gateway, sent as it is.

    Attributes:
        source: the id under which the gateway knows the sender.
        time: event-world time at which the sender sends it.
        lane: messages of one lane arrive in the order of the stream; usually the patient.
        body: the request's body.
        entries: FHIR entries in it: those of a Bundle, or 1; none of what is no FHIR.
        observations: how many of the entries are Observations.
        route: where the gateway takes it.
    """

    source: str
    time: datetime
    lane: str
    body: bytes
    entries: int
    observations: int = 0
    route: str = FHIR

    @property
    def content_type(self) -> str:
        """The media type of the body."""
        return "application/fhir+json" if self.route == FHIR else "application/json"


def instant(time: datetime) -> str:
    """Write a time as RFC 3339 in UTC, to the millisecond.

    >>> instant(datetime(2026, 1, 5, 8, 30, tzinfo=UTC))
    '2026-01-05T08:30:00.000Z'
    """
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
