"""Whose prediction of each event is shown, and whether it is the model that the log names."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from chaos.log import Log

from services.core.events import PSEUDONYM_BYTES, PredictionBatch, Role
from services.core.lineup import in_canary
from services.runtime.codec import Codec
from services.scoring.course import KEY, Course, CutOver
from services.scoring.outputs import CHANGELOG, PREDICTIONS, VITALS

NOBODY = bytes(PSEUDONYM_BYTES)


class Shown(NamedTuple):
    """What was shown, against what had to be.

    Attributes:
        events: committed offsets of vitals.v1.
        missing: offsets of which nothing is shown.
        doubled: what is shown beside something else of the same offset, or of no offset.
        foreign: what is shown of another model than the log names for that offset and patient.
        models: how many predictions each digest showed.
    """

    events: int
    missing: int
    doubled: int
    foreign: int
    models: Counter[str]

    @property
    def faults(self) -> int:
        """How many of all are not as they must be."""
        return self.missing + self.doubled + self.foreign


def shown(log: Log, codec: Codec) -> Shown:
    """Go through all that a log holds."""
    events, seen = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    models, foreign = Counter[str](), 0
    for partition in log.partitions:
        course = course_of(log, partition)
        events.update((partition, record.offset) for record in log.of(VITALS, partition))
        for batch in batches(log, codec, partition):
            if batch.role is not Role.SHOWN:
                continue
            for offset, pseudonym in offsets_of(batch):
                seen[(partition, offset)] += 1
                models[batch.model_digest] += 1
                foreign += batch.model_digest != named(course.at(offset), pseudonym)
    missing, doubled = (events - seen).total(), (seen - events).total()
    return Shown(events.total(), missing, doubled, foreign, models)


def named(turn: CutOver | None, pseudonym: bytes) -> str:
    """Give the digest of the model that is shown for a patient; empty where the log is silent."""
    if turn is None:
        return ""
    canary = pseudonym != NOBODY and in_canary(pseudonym, turn.line_up.share)
    seat = turn.line_up.canary if canary else turn.line_up.champion
    return seat.digest if seat is not None else ""


def batches(log: Log, codec: Codec, partition: int) -> Iterator[PredictionBatch]:
    """Give every batch of a partition."""
    for record in log.of(PREDICTIONS, partition):
        yield codec.decode(record.value or b"", PredictionBatch)


def course_of(log: Log, partition: int) -> Course:
    """Give the cut-overs of a partition, as its changelog says them last."""
    course = Course()
    course.load(log.last(CHANGELOG, partition, KEY))
    return course


def offsets_of(batch: PredictionBatch) -> list[tuple[int, bytes]]:
    """Give each offset of a batch with its pseudonym."""
    size = PSEUDONYM_BYTES
    whose = [batch.pseudonyms[size * n : size * (n + 1)] for n in range(batch.entries)]
    return list(zip(np.frombuffer(batch.offsets, "<i8").tolist(), whose, strict=True))
