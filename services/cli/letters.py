"""Which dead letters are meant, and the record that one becomes when handed in again; pure."""

from enum import StrEnum
from typing import Final

import msgspec

from services.core.events import DeadLetter
from services.runtime.ports import Output, Record

RAW: Final = "fhir.raw.v1"
MEDIA_TYPE: Final = b"application/fhir+json"
AGAIN: Final = "replay-"
"""What the ingest id of a record begins with that was a dead letter before."""
_TICK_PLACE: Final = "time"
_DIGITS: Final = 16


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a letter must be like; an empty word, and None, ask for nothing."""

    reason: str = ""
    source: str = ""
    since: int | None = None  # µs, included
    until: int | None = None  # µs, excluded

    def holds(self, letter: DeadLetter) -> bool:
        """Say whether a letter is one of them."""
        return (
            self.reason in ("", letter.reason)
            and self.source in ("", letter.source)
            and (self.since is None or letter.received_at >= self.since)
            and (self.until is None or letter.received_at < self.until)
        )


class Fate(StrEnum):
    """What becomes of a letter that shall be handed in again."""

    SENT = "sent"
    KNOWN = "sent_before"
    FOREIGN = "not_from_a_source"
    TICK = "a_clock"
    NOT_KEPT = "not_kept"


def again_as(record: Record, letter: DeadLetter) -> str:
    """Name the record that a letter becomes: the same whenever and by whomever it is handed in.

    >>> letter = DeadLetter(reason="RANGE", place="", topic=RAW, partition=0, offset=1, entry=-1,
    ...     source="west", received_at=0, length=0, sha256=bytes(32), key_epoch=1, payload=b"")
    >>> again_as(Record("dlq.v1", 2, 17, 0, None, None), letter)
    'replay-2-17-0000000000000000'
    """
    return f"{AGAIN}{record.partition}-{record.offset}-{letter.sha256.hex()[:_DIGITS]}"


def fate(record: Record, letter: DeadLetter, known: frozenset[str]) -> Fate:
    """Say what becomes of a letter, if records with the names `known` were handed in already."""
    if letter.topic != RAW:
        return Fate.FOREIGN
    if not letter.payload:
        return Fate.NOT_KEPT
    if letter.entry < 0 and letter.place == _TICK_PLACE:
        return Fate.TICK  # a time that has passed tells nobody anything
    return Fate.KNOWN if again_as(record, letter) in known else Fate.SENT


def order(record: Record, letter: DeadLetter) -> tuple[int, int, int, int, int]:
    """Rank letters as their messages stood: by time, then as in the log."""
    return letter.received_at, letter.partition, letter.offset, letter.entry, record.offset


def handed_in(record: Record, letter: DeadLetter, payload: bytes, accepted_at: int) -> Output:
    """Make the record of fhir.raw.v1: the letter's key puts it into the partition it came from.

    Args:
        record: of dlq.v1, in which the letter stands.
        letter: what was refused.
        payload: the letter's, opened.
        accepted_at: µs since the epoch, by the real clock.
    """
    headers = {
        "content-type": MEDIA_TYPE,
        "source": letter.source.encode(),
        "received_at": str(letter.received_at).encode(),
        "accepted_at": str(accepted_at).encode(),
        "ingest_id": again_as(record, letter).encode(),
    }
    return Output(RAW, record.key, payload, headers=tuple(headers.items()))
