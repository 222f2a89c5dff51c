"""One look at each plain Observation of a message, beside the one before it."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from services.core.events import Fate, Flag, Kind
from services.ingest.gathered import Gathered, Row
from services.ingest.habits import Language, Source
from services.ingest.normalise import moments
from services.ingest.normalise.findings import Finding, Measured, Message, OutOfScope
from services.ingest.normalise.forms import Plain
from services.ingest.normalise.links import are_ids
from services.ingest.normalise.message import CLOCK_SKEW, Reader
from services.ingest.normalise.observation import VITAL_SIGNS, is_skewed, version_of
from services.runtime.avro import text

_OBSERVATION: Final = Kind.OBSERVATION
_NO_ID: Final = int(Flag.NO_ID)
_ABOUT: Final = attrgetter("subject", "encounter", "effectiveDateTime", "issued", "device", "meta")
"""All that an Observation's scene is made of."""
_NOBODY: Final = "-"
"""In the place of an id that is not asked for."""

Detail = str | tuple[Fate, str]
"""What is told of an entry: its fate, unless it is vitals, and a detail."""
Scene = tuple[list[Row], int, bytes, tuple[str, str]]
"""Where readings go, their version and device, and what is told of others and of vital signs."""


class Round:
    """Reads the entries of one message in turn."""

    def __init__(self, message: Message, source: Source, language: Language) -> None:
        """Begin with no event."""
        self._received_at, self._source, self._language = message.received_at, source, language
        self.gathered = Gathered(message, source)
        self.others: list[tuple[int, Finding]] = []
        """Numbered findings that are no measurements."""

    def read(self, reader: Reader) -> list[Detail]:
        """Read each entry in one look, or else with care, and say what is told of it.

        Raises:
            Refusal: the whole of the message cannot be used.
        """
        details: list[Detail] = []
        readings_of, before = self._language.readings, None
        scene: Scene = [], 0, b"", ("", "")
        for index, (seen, name) in enumerate(zip(reader.plain, self._names(reader), strict=True)):
            try:
                readings = readings_of(seen) if seen and name else None
                if seen and isinstance(readings, tuple):
                    beside = _ABOUT(seen)
                    if beside != before:  # those of a patient mostly stand together
                        scene, before = self._scene(seen), beside
            except Exception:  # noqa: BLE001 - the careful look says what it is
                readings = None
            if name is None or readings is None:
                details.append(self._carefully(index, reader))
            elif isinstance(readings, OutOfScope):
                details.append((Fate.OUT_OF_SCOPE, readings.detail))
            else:
                rows, version, device, told = scene
                for meant, value, flags in readings:
                    known = index, meant.variable, value, flags, name, version
                    rows.append((*known, meant.code, meant.unit, device))
                details.append(told[readings[0][0].variable < VITAL_SIGNS])
        return details

    def _names(self, reader: Reader) -> Sequence[bytes | None]:
        """Name the plain Observations; none of them where not each has an id."""
        identifiers = [seen.id if seen else _NOBODY for seen in reader.plain]
        if not are_ids(identifiers):
            return [None] * len(identifiers)
        return [*map(self._source.reading_id, identifiers)]

    def _scene(self, seen: Plain) -> Scene:
        """Say what an Observation's readings share with those beside it; raises ValueError."""
        at = moments.instant(seen.effectiveDateTime)
        if at > self._received_at + moments.FUTURE_US:
            raise ValueError("in the future")
        stay = seen.encounter.reference if seen.encounter else ""
        whose = self._source.whose[seen.subject.reference, stay]
        device = self._source.device[seen.device.reference if seen.device else ""]
        told = "", ""
        if seen.issued or is_skewed(None, at, 0, self._received_at):
            other, vital = (
                CLOCK_SKEW if is_skewed(seen.issued, at, variable, self._received_at) else ""
                for variable in (VITAL_SIGNS, 0)
            )
            told = other, vital
        return self.gathered.rows(whose, at), version_of(seen.meta), device, told

    def _carefully(self, index: int, reader: Reader) -> Detail:
        entry = reader.entry(index)
        found = entry.finding
        if isinstance(found, Measured) and found.kind is _OBSERVATION:
            self._take(index, found)
        elif found:
            self.others.append((index, found))
        return entry.fate, entry.detail

    def _take(self, index: int, found: Measured) -> None:
        source = self._source
        rows = self.gathered.rows(source.named[found.patient, found.encounter], found.measured_at)
        name, device = source.reading_id(found.identifier), source.device_text(found.device)
        no_id = _NO_ID if found.without_id else 0
        for reading in found.readings:
            told = reading.variable, reading.value, reading.flags | no_id, name, found.version
            rows.append((index, *told, text(reading.code), text(reading.unit), device))
