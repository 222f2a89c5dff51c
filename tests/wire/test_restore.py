"""What a task puts off is done when all rows were loaded, before anything is handed to it."""

import pytest

from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.publisher import Publisher
from services.runtime.ports import Output, Row
from services.runtime.tables import restore

pytestmark = pytest.mark.wire

ROWS = [(b"a", b"1"), (b"b", b"2"), (b"a", None)]
CHANGELOG = "restore-changelog"


class Lazy:
    """Keeps what it is told until it is told to settle."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def load(self, key: bytes, value: bytes | None) -> None:
        self.told.append((key, value))

    def settle(self) -> None:
        self.told.append("settled")

    def handle(self, records: object) -> list[Output]:
        raise NotImplementedError(records)

    def changes(self) -> list[Row]:
        raise NotImplementedError


def test_a_task_settles_once_after_its_last_row(kafka: str) -> None:
    options = {"bootstrap.servers": kafka}
    create_topic(options, CHANGELOG, partitions=2, config={})
    publisher, written = Publisher(options), list[bool]()
    for key, value in ROWS:
        publisher.send(Output(CHANGELOG, key, value, 1), written.append)
    publisher.flush(10)
    tasks = {0: Lazy(), 1: Lazy()}
    assert restore(options, CHANGELOG, tasks) == len(ROWS)
    assert tasks[0].told == ["settled"]
    assert tasks[1].told == [*ROWS, "settled"]
