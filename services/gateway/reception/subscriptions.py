"""Notifications of FHIR Subscriptions: their event numbers tell what never came.

R5 and R4B say it in a SubscriptionStatus, the backport to R4 in Parameters; both stand first in
the Bundle (http://hl7.org/fhir/uv/subscriptions-backport).
"""

from typing import Any, Final

import msgspec

HANDSHAKE: Final = "handshake"
HEARTBEAT: Final = "heartbeat"
MOST_BEYOND: Final = 10_000
"""Numbers that are remembered ahead of a gap; whatever comes beyond them is held, not numbered."""
_MARK: Final = b"ubscription"
"""Stands in every notification, and in few other messages."""


class Notification(msgspec.Struct, frozen=True):
    """What a notification says of itself."""

    subscription: str
    kind: str
    since_start: int
    """How many events there were since the subscription began."""
    numbers: tuple[int, ...] = ()
    """Those that it carries."""


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()


class _Bundle(msgspec.Struct):
    entry: list[msgspec.Raw] = []


def notification_of(body: bytes) -> Notification | None:
    """Read the status of a notification; None where a body is none, or cannot be numbered."""
    if _MARK not in body:
        return None
    try:
        bundle = msgspec.json.decode(body, type=_Bundle)
        entry = msgspec.json.decode(bundle.entry[0], type=_Entry)
        status = msgspec.json.decode(entry.resource)
        kind = status["resourceType"]
        if kind == "Parameters":
            return _told(_plain(status["parameter"]))
        return _told(status) if kind == "SubscriptionStatus" else None
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError):
        return None


def _told(status: dict[str, Any]) -> Notification:
    events = status.get("notificationEvent", [])
    return Notification(
        subscription=_named(status["subscription"]["reference"]),
        kind=status["type"],
        since_start=int(status["eventsSinceSubscriptionStart"]),
        numbers=tuple(int(event["eventNumber"]) for event in events),
    )


def _named(reference: str) -> str:
    """Name a subscription by its id: servers write it with and without their address."""
    return reference.rpartition("/")[2]


def _plain(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the Parameters of the backport as a SubscriptionStatus."""
    values = {
        p["name"]: next((v for n, v in p.items() if n.startswith("value")), None)
        for p in parameters
    }
    events = [_part(p) for p in parameters if p["name"] == "notification-event"]
    return {
        "subscription": values["subscription"],
        "type": values["type"],
        "eventsSinceSubscriptionStart": values["events-since-subscription-start"],
        "notificationEvent": events,
    }


def _part(parameter: dict[str, Any]) -> dict[str, Any]:
    named = {part["name"]: part for part in parameter["part"]}
    number = named["event-number"]
    return {"eventNumber": next(v for n, v in number.items() if n.startswith("value"))}


class Numbers:
    """The event numbers of one subscription: what is held, and what is missing before it."""

    def __init__(self, through: int | None = None) -> None:
        """Begin.

        Args:
            through: every event up to this one is held; None where nothing is known.
        """
        self.through = through
        self._beyond: set[int] = set()
        self._last = through or 0

    def known(self, said: Notification) -> bool:
        """Whether everything that a notification carries is held already."""
        return bool(said.numbers) and all(self._has(number) for number in said.numbers)

    def hold(self, said: Notification) -> None:
        """Note what is durably held now."""
        if self.through is None or said.kind == HANDSHAKE:
            self._restart(said)
        self._last = max(self._last, said.since_start, *said.numbers, 0)
        room = MOST_BEYOND - len(self._beyond)
        self._beyond.update([n for n in said.numbers if not self._has(n)][:room])
        while self.through is not None and self.through + 1 in self._beyond:
            self.through += 1
            self._beyond.discard(self.through)

    def _restart(self, said: Notification) -> None:
        """Begin with the first that is heard of: what was before it, nobody can say."""
        first = min(said.numbers, default=said.since_start + 1)
        self.through, self._last, self._beyond = max(first - 1, 0), 0, set()

    def _has(self, number: int) -> bool:
        return number in self._beyond or (self.through is not None and number <= self.through)

    def missing(self) -> tuple[int, int] | None:
        """Give the first and last number of the first gap; None where there is none."""
        if self.through is None or self._last <= self.through:
            return None
        following = min(self._beyond, default=self._last + 1)
        return self.through + 1, min(following - 1, self._last)
