"""The bare loop scoring is held against: decode, forty trivial features, ONNX, one record out.

It reads what a bedside sends, FHIR Observations of 1.2 kB as JSON; it keeps no history, no
changelog and no policy. It comes in two forms: `run`, a loop of its own as anybody would write it,
which polls, drains, and commits every 10 ms and waits for that; and `Bare`, the same work as a
task of our worker, whose transactions last up to 100 ms and are committed behind the next records.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from trivial import Code, Concept, Features, Observation, Prediction, Quantity, Reference

from services.core.events import Vitals
from services.core.vitals import VARIABLES, VITALS
from services.runtime.model import OnnxModel
from services.runtime.ports import Output, Record, Stateless
from services.scoring.outputs import PREDICTIONS

OBSERVATIONS = "bare.observations"
BYTES = 1200
BATCH: Final = 512
WINDOW_S: Final = 0.010
SHORTEST_POLL_S: Final = 0.0005
TIMEOUT_S: Final = 10.0
FAST: Final = {"retry.backoff.ms": 2, "retry.backoff.max.ms": 20}


class Took(NamedTuple):
    """Wall and CPU time of a run, from the assignment of partitions to the last commit."""

    wall_s: float
    cpu_s: float


def observations(events: Sequence[Vitals], partitions: int) -> list[Output]:
    """One Observation per event that measures a vital sign: its first value."""
    found = []
    for number, event in enumerate(events):
        if not event.variables or event.variables[0] >= len(VITALS):
            continue
        value = float(np.frombuffer(event.values, "<f8")[0])
        body = Observation(
            id=str(number),
            code=Concept(coding=[Code(code=VARIABLES[event.variables[0]])]),
            subject=Reference(reference=f"Patient/{event.pseudonym.hex()}"),
            effectiveDateTime=str(event.measured_at),
            valueQuantity=Quantity(value=value if np.isfinite(value) else 80.0),
        )
        text = msgspec.to_builtins(body) | {"resourceType": "Observation", "note": ""}
        text["note"] = "x" * max(BYTES - len(msgspec.json.encode(text)), 0)
        value_bytes = msgspec.json.encode(text)
        found.append(
            Output(OBSERVATIONS, event.pseudonym, value_bytes, event.pseudonym[0] % partitions)
        )
    return found


class Predicting:
    """The work itself: bytes of Observations to bytes of a prediction each."""

    def __init__(self, onnx: OnnxModel, width: int) -> None:
        self._onnx, self._width = onnx, width
        self._decoder = msgspec.json.Decoder(Observation)
        self._features = Features(VITALS)

    def of(self, values: Sequence[bytes]) -> list[bytes]:
        """Predict for at most BATCH of them."""
        some = [self._decoder.decode(value) for value in values]
        rows = np.zeros((len(some), self._width), np.float32)
        for row, each in zip(rows, some, strict=True):
            row[: 5 * len(VITALS)] = self._features.of(each)
        scores = self._onnx.score(rows).tolist()
        return [
            msgspec.json.encode(
                Prediction(each.id, each.subject.reference, each.effectiveDateTime, score)
            )
            for each, score in zip(some, scores, strict=True)
        ]


class Bare(Stateless):
    """The work as a task of our worker."""

    def __init__(self, partition: int, onnx: OnnxModel, width: int) -> None:
        self._partition, self._work = partition, Predicting(onnx, width)

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        for start in range(0, len(records), BATCH):
            some = [record.value or b"" for record in records[start : start + BATCH]]
            for value in self._work.of(some):
                yield Output(PREDICTIONS, None, value, self._partition)


def run(bootstrap: str, work: Predicting, count: int) -> Took:
    """Do the work in a loop of its own, until so many observations are committed."""
    began = list[Took]()

    def clock() -> Took:
        return Took(time.monotonic(), time.process_time())

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": "bare-loop-0",
            "linger.ms": 0,
            "socket.nagle.disable": True,
            "transaction.timeout.ms": 5000,
            **FAST,
        }
    )
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bare-loop",
            "group.instance.id": "bare-loop-0",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1500,
            "partition.assignment.strategy": "cooperative-sticky",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "fetch.queue.backoff.ms": 5,
            **FAST,
        }
    )
    producer.init_transactions(TIMEOUT_S)
    consumer.subscribe([OBSERVATIONS], on_assign=lambda *_: began.append(clock()))
    handled = 0
    while handled < count:
        handled += _window(consumer, producer, work)
    ended = clock()
    consumer.close()
    return Took(ended.wall_s - began[0].wall_s, ended.cpu_s - began[0].cpu_s)


def _window(consumer: Consumer, producer: Producer, work: Predicting) -> int:
    """Handle what comes within a window in one transaction, and say how much that was."""
    batch, handled = _polled(consumer, 0.1), 0
    if not batch:
        return 0
    until, offsets = time.monotonic() + WINDOW_S, dict[int, int]()
    producer.begin_transaction()
    while True:
        handled += len(batch)
        for message, value in zip(batch, work.of([_value(each) for each in batch]), strict=True):
            partition = message.partition() or 0
            producer.produce(PREDICTIONS, value, partition=partition)
            offsets[partition] = (message.offset() or 0) + 1
        producer.poll(0)
        rest_s = until - time.monotonic()
        if rest_s <= SHORTEST_POLL_S:
            break
        batch = _polled(consumer, rest_s)
        if not batch:
            break
    places = [TopicPartition(OBSERVATIONS, of, offset) for of, offset in offsets.items()]
    producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), TIMEOUT_S)
    producer.commit_transaction(TIMEOUT_S)
    return handled


def _polled(consumer: Consumer, timeout_s: float) -> list[Message]:
    """Wait for a message, and take what came with it."""
    message = consumer.poll(timeout_s)
    return [] if message is None else [message, *consumer.consume(BATCH - 1, 0)]


def _value(message: Message) -> bytes:
    value: Any = message.value()
    if message.error() is not None or not isinstance(value, bytes):
        raise RuntimeError("the bare loop met what had not been sent to it")
    return value
