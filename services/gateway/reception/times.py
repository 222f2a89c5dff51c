"""Times that senders declare, as microseconds since the epoch, UTC."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from services.core.errors import Reason
from services.gateway.reception.answers import Rejected

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class _Tick(msgspec.Struct):
    time: Instant


_TICK: Final = msgspec.json.Decoder(_Tick)


def declared_at(text: str, place: str = "header Vigil-Time") -> int:
    """Read an RFC 3339 instant.

    Raises:
        Rejected: it is none (400).
    """
    try:
        return microseconds(msgspec.convert(text, Instant))
    except msgspec.ValidationError:
        raise Rejected(400, place, Reason.TIME_FORMAT) from None


def ticked_at(body: bytes) -> int:
    """Read the time of a tick, `{"time": RFC 3339}`.

    Raises:
        Rejected: it has none (400).
    """
    try:
        return microseconds(_TICK.decode(body).time)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Rejected(400, "time", Reason.TIME_FORMAT) from None


def tick_of(at_us: int) -> bytes:
    """Write a tick."""
    return msgspec.json.encode(_Tick(EPOCH + timedelta(microseconds=at_us)))


def microseconds(instant: datetime) -> int:
    """Count microseconds since the epoch."""
    return (instant - EPOCH) // timedelta(microseconds=1)
