"""Messages that were made before, in a file, in Bundles of several patients; and their sender."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from zlib import crc32

import msgspec
import uvloop
from sender import post

from services.simulator.feeder import ACCEPTED
from services.simulator.messages import Message

LANES = 48  # connections: with 16, what one waits for its answer holds back 5,000 events a second
LENGTH_BYTES = 4
PANEL = {"system": "http://loinc.org", "code": "85353-1"}


class Body(msgspec.Struct):
    """As much of a Bundle as is needed to put several into one."""

    entry: list[msgspec.Raw]
    resourceType: str = "Bundle"  # noqa: N815 - FHIR's name
    type: str = "collection"


def merged(messages: Iterable[Message], size: int, *, panels: bool = False) -> Iterator[Message]:
    """Put so many messages of different patients into one; those of a patient stay in order.

    Args:
        messages: of the ward, a round of one patient each.
        size: how many go together.
        panels: whether the vital signs of a round are components of one Observation.
    """
    lanes: dict[int, list[Message]] = {lane: [] for lane in range(LANES)}
    for message in messages:
        waiting = lanes[crc32(message.lane.encode()) % LANES]
        waiting.append(message)
        if len(waiting) == size:
            yield _one(waiting, crc32(message.lane.encode()) % LANES, panels=panels)
            waiting.clear()


def _one(messages: list[Message], lane: int, *, panels: bool) -> Message:
    bodies = [msgspec.json.decode(message.body, type=Body) for message in messages]
    rounds = [_in_a_panel(body.entry) if panels else body.entry for body in bodies]
    entries = [entry for entries in rounds for entry in entries]
    fewer = sum(len(body.entry) for body in bodies) - len(entries)
    return Message(
        source=messages[-1].source,
        time=messages[-1].time,
        lane=str(lane),
        body=msgspec.json.encode(Body(entries)),
        entries=len(entries),
        observations=sum(message.observations for message in messages) - fewer,
    )


def _in_a_panel(entries: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """Make one Observation of the vital signs of a round, as bedside monitors send them."""
    found = [msgspec.json.decode(entry)["resource"] for entry in entries]
    signs = [resource for resource in found if _is_a_sign(resource)]
    if len(signs) < len(found) or len(signs) < 2:
        return entries
    parts = [
        {"code": part["code"], "valueQuantity": part["valueQuantity"]}
        for resource in signs
        for part in resource.get("component", [resource])
    ]
    whole = {name: part for name, part in signs[0].items() if name != "valueQuantity"}
    panel = whole | {"code": {"coding": [PANEL]}, "component": parts}
    return [msgspec.Raw(msgspec.json.encode({"resource": panel}))]


def _is_a_sign(resource: dict[str, Any]) -> bool:
    categories = resource.get("category", [{"coding": [{}]}])
    return bool(categories[0]["coding"][0].get("code") == "vital-signs")


class Spool(msgspec.Struct, frozen=True):
    """Events in Bundles in a file; `hours` of event time lie between the first and the last."""

    path: Path
    events: int
    hours: float


def spooled(path: Path, messages: Iterable[Message], size: int) -> Spool:
    """Write Bundles of so many events to a file."""
    encoder, count, first, last = msgspec.msgpack.Encoder(), 0, None, None
    with path.open("wb") as file:
        for message in messages:
            raw = encoder.encode(message)
            file.write(len(raw).to_bytes(LENGTH_BYTES, "little") + raw)
            first, last, count = first or message.time, message.time, count + 1
    assert first is not None
    assert last is not None
    return Spool(path, count * size, (last - first).total_seconds() / 3600)


def told(file: IO[bytes]) -> Iterator[Message]:
    """Read messages back."""
    decoder = msgspec.msgpack.Decoder(Message)
    while head := file.read(LENGTH_BYTES):
        yield decoder.decode(file.read(int.from_bytes(head, "little")))


def send(spool: Spool, gateway: str, seconds: float | None, answer: Any) -> None:
    """Send a spool over so many seconds, or as fast as it is taken; tell what became of it."""
    speed = spool.hours * 3600 / seconds if seconds else None
    began = time.monotonic()
    with spool.path.open("rb") as file:
        posting = post(told(file), gateway, lanes=LANES, speed=speed, hours=spool.hours)
        answers = uvloop.run(posting)
    accepted = answers.pop(ACCEPTED, 0)
    answer.put(
        {
            "began": began,
            "accepted": accepted,
            "refused": answers.total(),
            "elapsed_s": time.monotonic() - began,
        }
    )
