"""The headers of CloudEvents, on topics to which others subscribe; they name nobody."""

from typing import Final

from services.core.events import Signal
from services.runtime.codec import Codec
from services.runtime.ports import Headers, Output

SIGNALS: Final = "signals.v1"


def cloud_event(name: str, *, by: str, of: str, at: str = "") -> Headers:
    """Give the headers of an event in binary mode.

    Args:
        name: of the event, for good.
        by: the service that writes it.
        of: what it is, as `vigil.signal.v1`.
        at: when it happened, as text; empty leaves it out.
    """
    headers = {
        "ce_specversion": "1.0",
        "ce_id": name,
        "ce_source": f"/vigil/{by}",
        "ce_type": of,
        "ce_time": at,
        "content-type": "application/avro",
    }
    return tuple((header, text.encode()) for header, text in headers.items() if text)


def signal_output(codec: Codec, signal: Signal, *, by: str) -> Output:
    """Write a step of a signal for a service."""
    name = f"{signal.signal_id}:{signal.step}:{signal.start}"
    headers = cloud_event(name, by=by, of="vigil.signal.v1")
    return Output(SIGNALS, signal.signal_id.encode(), codec.encode(signal), headers=headers)
