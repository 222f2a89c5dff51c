"""Vitals as ingest writes them: made before from a simulated ward, then sent at a steady rate."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Self

import builders
import numpy as np
from confluent_kafka import KafkaException, Producer

from services.runtime.kafka.client import QUIET
from services.runtime.ports import Output, Record
from services.scoring.outputs import VITALS
from services.simulator.messages import START, instant
from services.simulator.ward import Ward

TICK_EVERY = timedelta(minutes=30)
HOURS = 100_000
STEP_S = 0.02
ABORTED = 25  # every so many transactions one is written, given up, and written again
AWAY_S = 60.0


def vitals(seed: int, *, beds: int) -> Iterator[Output]:
    """The events of a ward, with the ticks of its source, in order of time, without end."""
    task = builders.ingest()
    for offset, record in enumerate(_raw(Ward(np.random.default_rng(seed), START, beds=beds))):
        outputs = task.handle([_at(record, offset)])
        yield from (output for output in outputs if output.topic == VITALS)


def _raw(ward: Ward) -> Iterator[Record]:
    tick = START + TICK_EVERY
    for message in ward.messages(HOURS):
        while tick <= message.time:
            yield _tick(tick)
            tick += TICK_EVERY
        yield builders.record(message.body, received=instant(message.time))


def _tick(time_: datetime) -> Record:
    body = builders.body({"time": instant(time_)})
    media_type = "application/vnd.vigil.tick+json"
    return builders.record(body, media_type=media_type, received=instant(time_))


def _at(record: Record, offset: int) -> Record:
    return Record(
        record.topic, 0, offset, record.timestamp_ms, record.key, record.value, record.headers
    )


class Feed:
    """Sends events in Kafka transactions, as ingest does; some are aborted and sent again."""

    def __init__(
        self,
        bootstrap: str,
        events: Iterable[Output],
        *,
        rate: float,
        held: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin with nothing sent.

        Args:
            bootstrap: of the broker.
            events: in order; they may have no end.
            rate: of events per second.
            held: whether to wait just now; the time does not count.
        """
        self._held = held
        self._bootstrap, self._events, self.asked = bootstrap, iter(events), rate
        self._pausing = threading.Event()
        self._thread: threading.Thread | None = None
        self._transactions = 0
        self.over = False
        """Whether there are no more events."""
        self.sent = 0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._pausing.clear()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pausing.set()
        assert self._thread is not None
        self._thread.join(AWAY_S)
        assert not self._thread.is_alive(), "the feed hangs"

    @property
    def rate(self) -> float:
        """Events per second, over the time in which it was sending."""
        return self.sent / self.seconds if self.seconds else 0.0

    def _run(self) -> None:
        producer, before = self._open(), time.monotonic()
        while not self._pausing.wait(STEP_S) and not self.over:
            now = time.monotonic()
            if not self._held():
                self.seconds += now - before
                producer = self._due(producer)
            before = now

    def _due(self, producer: Any) -> Any:
        many = int(self.seconds * self.asked) - self.sent
        batch = list(islice(self._events, many))
        self.over = len(batch) < many
        return self._send(producer, batch) if batch else producer

    def _send(self, producer: Any, batch: Sequence[Output]) -> Any:
        while True:
            try:
                self._write(producer, batch)
            except KafkaException:
                # Whether it was committed is not known: twice is a duplicate, which is no fault.
                producer = self._open()
            else:
                self.sent += len(batch)
                return producer

    def _write(self, producer: Any, batch: Sequence[Output]) -> None:
        self._transactions += 1
        for aborted in (True, False) if self._transactions % ABORTED == 0 else (False,):
            producer.begin_transaction()
            for event in batch:
                producer.produce(VITALS, event.value, event.key, event.partition)
            if aborted:
                producer.flush(AWAY_S)
                producer.abort_transaction(AWAY_S)
            else:
                producer.commit_transaction(AWAY_S)

    def _open(self) -> Any:
        deadline = time.monotonic() + AWAY_S
        while True:
            try:
                given = {"bootstrap.servers": self._bootstrap, **QUIET}
                producer = Producer({**given, "transactional.id": "feed", "linger.ms": 0})
                producer.init_transactions(5)
            except KafkaException:
                assert time.monotonic() < deadline, "the broker does not come back"
            else:
                return producer
