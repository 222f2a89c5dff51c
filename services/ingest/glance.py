"""What the entries of a message say becomes its events; most are plain, and read in one look.

Nearly all that monitors and laboratories send is so. What is written is what `normalise` would
read, `assemble` group and name and `wire` write, byte for byte. An entry that is unusual in any
way is left to them, and nothing is refused here.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

import msgspec

from services.core.events import Fate, Kind, ReceiptEntry, Vitals
from services.core.terminology.book import Terminology
from services.ingest.gathered import Written, head
from services.ingest.habits import Kept, Language, Source
from services.ingest.normalise import moments
from services.ingest.normalise.assemble import Assembler
from services.ingest.normalise.findings import Finding, Message, OutOfScope
from services.ingest.normalise.forms import Plain, alone, several
from services.ingest.normalise.links import check_id
from services.ingest.normalise.message import CLOCK_SKEW, Reader, Refused
from services.ingest.normalise.observation import is_skewed, version_of
from services.ingest.round import Detail, Round
from services.ingest.wire import Wire, moment

_MOSTLY_ONE: Final = 8192
"""Bytes of which few Bundles have less, and few resources more."""
_OBSERVATION: Final = Kind.OBSERVATION
_END: Final = b"\x00"
_ONE: Final = b"\x02"
"""The length of a list of one word."""
_ENTRY: Final = 0
"""The number of the only entry."""
_pack: Final = Struct("<BHBBBdBHB8sBq").pack
"""The columns of one reading, each with its length before it."""
_ALONE: Final = {
    skewed: [ReceiptEntry(index=_ENTRY, fate=Fate.VITALS, detail=CLOCK_SKEW if skewed else "")]
    for skewed in (False, True)
}

Placed = tuple[int, tuple[str, bytes], Vitals | Written]
"""An event, the number of its first entry, and id and pseudonym of the patient."""


class Result(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one record said: its events, what became of its entries, and what was refused."""

    entries: list[ReceiptEntry]
    refused: Sequence[Refused] = ()
    events: Sequence[Vitals | Written] = ()
    """Each where its first entry stands."""
    subjects: Mapping[str, bytes] = {}
    """Id and pseudonym of each patient that the events are about."""
    head: Sequence[bytes] = ()
    """Name, source, place and times of the message as a receipt takes them, if written already."""


class Glance:
    """Reads messages of FHIR."""

    def __init__(self, terminology: Terminology, key: bytes, wire: Wire) -> None:
        """Begin with nothing remembered.

        Args:
            terminology: codes, units and ranges.
            key: of pseudonyms, 32 bytes.
            wire: knows how events begin.
        """
        self._terminology, self._key = terminology, key
        self._begin, self._buffer = wire.begin(_OBSERVATION), bytearray()
        self._sources, self._language = Kept(self._source), Language(terminology)

    def read(self, message: Message) -> Result:
        """Say what a message says.

        Raises:
            Refusal: the whole of it cannot be used.
        """
        body, buffer = message.body, self._buffer
        seen = alone(body, buffer) if len(body) < _MOSTLY_ONE else None
        found = self._alone(message, seen) if seen else None
        if found:
            return found
        entries = [seen] if seen else several(body, buffer)
        return self._among(message, Reader(message, self._terminology, entries))

    def _alone(self, message: Message, seen: Plain) -> Result | None:
        """Read an Observation of one value as `_among` would, at half of it; None if unusual."""
        try:
            own = seen.valueQuantity
            if own is None or seen.component:
                return None
            known = self._language.meant
            meant = known[bytes(seen.code), bytes(seen.category), own.system, own.code]
            if isinstance(meant, OutOfScope):
                return None
            usual = meant.low < own.value < meant.high
            value, flags = (own.value, 0) if usual else meant.value(own.value)
            source, at = self._sources[message.source], moments.instant(seen.effectiveDateTime)
            if at > message.received_at + moments.FUTURE_US:
                return None
            name = source.reading_id(check_id(seen.id, "id"))
            stay = seen.encounter.reference if seen.encounter else ""
            whose = source.whose[seen.subject.reference, stay]
            device = source.device[seen.device.reference if seen.device else ""]
            skewed = is_skewed(seen.issued, at, meant.variable, message.received_at)
        except Exception:  # noqa: BLE001 - the careful look says what it is
            return None
        named, _, place, came = written = head(message, source)
        version = version_of(seen.meta)
        columns = _pack(4, _ENTRY, 2, meant.variable, 16, value, 4, flags, 16, name, 16, version)
        begin, when, end = whose.begin, moment(at), source.end
        parts = begin, when, came, named, place, columns, meant.listed, _ONE, device, _END, end
        return Result(
            entries=_ALONE[skewed],
            events=[(whose.pseudonym, b"".join(parts))],
            subjects={whose.identifier: whose.pseudonym},
            head=written,
        )

    def _among(self, message: Message, reader: Reader) -> Result:
        """Read each entry in one look, or else with care."""
        source = self._sources[message.source]
        round_ = Round(message, source, self._language)
        details = round_.read(reader)
        events: list[Placed] = [*round_.gathered.written()]
        if round_.others:
            events = sorted([*events, *self._assembled(message, round_.others)], key=_place)
        return Result(
            entries=_entries(tuple(details)),
            refused=reader.refused,
            events=[event for _, _, event in events],
            subjects=dict([whose for _, whose, _ in events]),
            head=round_.gathered.head,
        )

    def _assembled(
        self, message: Message, found: Sequence[tuple[int, Finding]]
    ) -> Iterable[Placed]:
        """Make the events of what is no measurement."""
        assembler = Assembler(message, self._key, self._terminology.version)
        events = assembler.events(found)
        names = {pseudonym: identifier for identifier, pseudonym in assembler.subjects.items()}
        for event in events:
            first = int.from_bytes(event.entries[:2], "little")
            yield first, (names[event.pseudonym], event.pseudonym), event

    def _source(self, name: str) -> Source:
        return Source(name, self._key, self._begin, self._terminology.version)


def _place(event: Placed) -> int:
    return event[0]


@lru_cache(64)  # most Bundles of a size are told the same
def _entries(details: tuple[Detail, ...]) -> list[ReceiptEntry]:
    """Give the entries of a receipt."""
    return [_entry(index, detail) for index, detail in enumerate(details)]


@lru_cache(8192)
def _entry(index: int, detail: Detail) -> ReceiptEntry:
    fate, told = (Fate.VITALS, detail) if isinstance(detail, str) else detail
    return ReceiptEntry(index=index, fate=fate, detail=told)
