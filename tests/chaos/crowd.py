"""A ward's events told again of other patients: as many as are wanted, in order of time."""

from collections.abc import Iterable, Iterator

import msgspec
from chaos.ground import PARTITIONS

from services.core.events import Vitals, partition_of
from services.runtime.codec import Codec
from services.runtime.ports import Output

TAIL = 4


def crowd(events: Iterable[Output], codec: Codec, *, copies: int) -> Iterator[Output]:
    """Give each event of a patient once per copy, and what concerns nobody once."""
    for output in events:
        event = codec.decode(output.value or b"", Vitals)
        if not event.pseudonym:
            yield output
            continue
        for copy in range(copies):
            yield _told_of_another(output, event, codec, copy)


def _told_of_another(output: Output, event: Vitals, codec: Codec, copy: int) -> Output:
    pseudonym = _another(event.pseudonym, copy)
    encounter = _another(event.encounter, copy) if event.encounter else b""
    changed = msgspec.structs.replace(event, pseudonym=pseudonym, encounter=encounter)
    place = partition_of(pseudonym, PARTITIONS)
    return Output(output.topic, pseudonym, codec.encode(changed), place)


def _another(name: bytes, copy: int) -> bytes:
    tail = int.from_bytes(name[-TAIL:], "little") ^ copy
    return name[:-TAIL] + tail.to_bytes(TAIL, "little")
