"""Which baselines people put into use, as changes.v1 tells it."""

from collections.abc import Iterable, Iterator
from typing import Final

from services.core.baseline import Baseline, Baselines, decode
from services.core.errors import Reason, Refusal
from services.core.events import Change
from services.runtime.codec import Codec

KIND: Final = "baseline"
"""Of the changes that put a baseline into use."""
InUse = tuple[int, Baseline]
"""From when on, µs, and the baseline."""


def put_into_use(value: bytes, codec: Codec) -> InUse | None:
    """Read one change; None where it is not about a baseline.

    Args:
        value: of a record of changes.v1.
        codec: for events.

    Raises:
        Refusal: it cannot be read, or its content is not what was approved.
        Stop: it has a schema that nobody here knows.
    """
    change = codec.decode(value, Change)
    if change.kind != KIND:
        return None
    baseline = decode(change.content)
    if baseline.digest != change.after:
        raise Refusal(Reason.KEY_MISMATCH, "after")
    return change.effective_from, baseline


def baselines_of(values: Iterable[bytes], codec: Codec) -> Baselines:
    """Say which baseline was in force when.

    A change that cannot be read, or whose content is not what it was approved as, puts nothing
    into use.

    Args:
        values: of the records of changes.v1, in their order.
        codec: for events.

    Raises:
        Stop: a change has a schema that nobody here knows.
    """
    return Baselines(_usable(values, codec))


def _usable(values: Iterable[bytes], codec: Codec) -> Iterator[InUse]:
    for value in values:
        try:
            found = put_into_use(value, codec)
        except Refusal:
            continue
        if found is not None:
            yield found
