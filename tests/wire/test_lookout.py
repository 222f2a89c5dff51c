"""A life that comes back to a log that waited learns from its end how far event time is."""

import itertools

import pytest
from wards import CODEC, HOUR, START, event, measured, tick

from services.core.events import Kind
from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.publisher import Publisher
from services.runtime.ports import Output, Record
from services.scoring.lookout import WAITED_S, Lookout

pytestmark = pytest.mark.wire

_NUMBERS = itertools.count()
WAITING = WAITED_S + 1


@pytest.fixture
def topic(kafka: str) -> str:
    """A topic whose second partition holds a day, with a tick of a source that fell silent."""
    name = f"lookout-{next(_NUMBERS)}"
    create_topic({"bootstrap.servers": kafka}, name, partitions=2, config={})
    told = [tick(START, "silent"), event(Kind.PATIENT, "a", START)]
    for hour in range(24):
        told += [measured("a", START + hour * HOUR, {"HR": 80}), tick(START + hour * HOUR)]
    publisher, written = Publisher({"bootstrap.servers": kafka}), list[bool]()
    for each in told:
        publisher.send(Output(name, b"", CODEC.encode(each), 1), written.append)
    publisher.send(Output(name, b"", b"unreadable", 1), written.append)
    publisher.flush(10)
    assert written == [True] * (len(told) + 1)
    return name


def look(kafka: str, record: Record, *, after_s: float) -> int | None:
    now = record.timestamp_ms / 1000 + after_s
    return Lookout({"bootstrap.servers": kafka}, CODEC, lambda: now)(record)


def test_the_clocks_of_the_sources_at_the_end_of_the_partition_are_told(
    kafka: str, topic: str
) -> None:
    record = Record(topic, 1, 0, 1000, None, b"")
    assert look(kafka, record, after_s=WAITING) == START + 23 * HOUR


def test_of_a_short_wait_and_of_a_partition_without_clocks_nothing_is_told(
    kafka: str, topic: str
) -> None:
    assert look(kafka, Record(topic, 1, 0, 1000, None, b""), after_s=WAITED_S - 1) is None
    assert look(kafka, Record(topic, 0, 0, 1000, None, b""), after_s=WAITING) is None
