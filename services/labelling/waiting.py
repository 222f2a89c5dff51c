"""Answers to alerts, and outcomes of stays, that nobody knows yet: held until somebody does."""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from services.core.events import Feedback, Outcome
from services.core.windows import WEEK
from services.labelling.stays import MARK_BYTES
from services.runtime.ports import Record, Row

PREFIX: Final = b"held/"
PATIENCE: Final = WEEK
"""So long after it was received something is held."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """The name of an answer or outcome, and its content without the times of its transport."""

    name: bytes
    content: bytes


def mark_of(event: Feedback | Outcome) -> Mark:
    """Name an answer or outcome by (source, id), whatever else it says."""
    name = (type(event).__name__, event.source, id_of(event))
    content = msgspec.structs.replace(event, received_at=0, accepted_at=0)
    return Mark(_hash(name), _hash(content))


def id_of(event: Feedback | Outcome) -> str:
    """Give the id that the source gave it."""
    return event.feedback_id if isinstance(event, Feedback) else event.outcome_id


def _hash(value: object) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode(value)).digest()[:MARK_BYTES]


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A record as it came, what it waits for, and until when (µs of event time)."""

    wanted: bytes
    until: int
    mark: Mark
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes

    @classmethod
    def of(cls, record: Record, *, wanted: bytes, mark: Mark, at: int) -> "Held":
        """Give a record that was received at a time (µs) the form in which it is held."""
        return cls(
            wanted=wanted,
            until=at + PATIENCE,
            mark=mark,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp_ms,
            value=record.value or b"",
        )

    @property
    def record(self) -> Record:
        """The record, as far as a dead letter tells of it."""
        return Record(self.topic, self.partition, self.offset, self.timestamp_ms, None, self.value)


class Waiting:
    """What is held in one partition."""

    def __init__(self) -> None:
        self._held: dict[bytes, Held] = {}
        self._wanted: dict[bytes, dict[bytes, None]] = {}
        self._changed: dict[bytes, None] = {}

    def keep(self, held: Held) -> None:
        """Hold a record until it is released or given up."""
        key = f"{held.topic[0]}{held.offset}".encode()
        self._put(PREFIX + key, held)
        self._changed[PREFIX + key] = None

    def release(self, wanted: bytes) -> list[Held]:
        """Let go what waited for something that is known now, in the order in which it came."""
        return [self._take(key) for key in list(self._wanted.get(wanted, ()))]

    def given_up(self, watermark: int) -> list[Held]:
        """Let go what waited in vain, in an order that does not tell when it was loaded."""
        over = [(held.until, key) for key, held in self._held.items() if held.until <= watermark]
        return [self._take(key) for _, key in sorted(over)]

    def load(self, key: bytes, row: bytes | None) -> Held | None:
        """Take one row of the changelog; None deletes. Gives what was put or deleted."""
        if row is None:
            return self._drop(key) if key in self._held else None
        held = msgspec.msgpack.decode(row, type=Held)
        self._put(key, held)
        return held

    def changes(self) -> Iterable[Row]:
        """Give each row that changed since the last call."""
        changed, self._changed = self._changed, {}
        for key in changed:
            held = self._held.get(key)
            yield key, msgspec.msgpack.encode(held) if held else None

    def _put(self, key: bytes, held: Held) -> None:
        self._held[key] = held
        self._wanted.setdefault(held.wanted, {})[key] = None

    def _take(self, key: bytes) -> Held:
        self._changed[key] = None
        return self._drop(key)

    def _drop(self, key: bytes) -> Held:
        held = self._held.pop(key)
        waiting = self._wanted[held.wanted]
        del waiting[key]
        if not waiting:
            del self._wanted[held.wanted]
        return held
