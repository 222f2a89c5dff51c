"""One message: what each of its entries says, and why the others were refused."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from services.core.errors import Reason, Refusal
from services.core.events import Fate
from services.core.terminology.book import Terminology
from services.ingest.normalise import moments, people, strict
from services.ingest.normalise.document import Document, originals
from services.ingest.normalise.findings import Finding, Measured, Message, Noted, OutOfScope
from services.ingest.normalise.forms import Plain, without
from services.ingest.normalise.links import Links
from services.ingest.normalise.observation import Scene, read_observation

WHOLE: Final = -1
"""In the place of an entry's number: the whole message."""
CLOCK_SKEW: Final = "CLOCK_SKEW"
"""Told of an entry that was read, and whose clock seems wrong."""
_NO_LINKS: Final = Links(())
_VITALS, _OUT_OF_SCOPE = Fate.VITALS, Fate.OUT_OF_SCOPE


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, or a whole message, that cannot be used."""

    entry: int
    reason: Reason
    place: str
    payload: bytes


class Entry(msgspec.Struct, frozen=True):
    """What became of one entry, and what it said."""

    fate: Fate
    detail: str = ""
    finding: Finding | None = None


class Reader:
    """Reads the entries of one message."""

    def __init__(
        self,
        message: Message,
        terminology: Terminology,
        entries: Sequence[Plain | None] | None = None,
    ) -> None:
        """Take the message.

        Args:
            message: as it was received.
            terminology: codes, units, ranges.
            entries: what `forms.several` made of its body.

        Raises:
            Refusal: the whole of it cannot be used.
        """
        self._message, self._terminology = message, terminology
        self.refused: list[Refused] = []
        self.plain: Sequence[Plain | None] = entries or self._nothing_plain()
        """Of each entry what `forms.several` made of it."""

    def _nothing_plain(self) -> Sequence[None]:
        return [None] * len(self._document.resources)

    @cached_property
    def _document(self) -> Document:
        """All of the message, strictly parsed; not needed where all of it is plain and usual."""
        return Document(self._message.body)

    @cached_property
    def _others(self) -> Document:
        """The message with little of its plain Observations: nothing else is in need of them."""
        if all(self.plain) or not any(self.plain):
            return self._document
        try:
            return Document(without(self._message.body, self.plain))
        except Refusal:
            return self._document  # it says where the fault stands in what was received

    def _document_of(self, index: int) -> Document:
        return self._document if self.plain[index] else self._others

    @cached_property
    def _links(self) -> Links:
        return Links(self._others.entries)

    def entries(self) -> list[Entry]:
        """Read every entry, in order; whatever is wrong with one leaves the others alone.

        Raises:
            Refusal: the whole of it cannot be used.
        """
        return [self.entry(index) for index in range(len(self.plain))]

    def entry(self, index: int) -> Entry:
        """Read one entry, with care; raises as `entries`."""
        return (self._alone(index) if self.plain[index] else None) or self._entry(index)

    def _alone(self, index: int) -> Entry | None:
        """Read one plain Observation carefully, and leave the rest of its Bundle unparsed.

        Its references point to no entry of the message (`forms.several`). None where it would be
        refused: then all of the message is looked at, and says why.
        """
        try:
            original = self._originals[index]
            scene = self._scene(lambda: original, _NO_LINKS)
            return _told(read_observation(strict.parse(original), scene))
        except Exception:  # noqa: BLE001 - the look at all of the message says what it is
            return None

    @cached_property
    def _originals(self) -> Sequence[bytes]:
        """Each resource as it was received; raises where all of the message is too deep."""
        strict.check(self._message.body)
        return originals(self._message.body)

    def _entry(self, index: int) -> Entry:
        document = self._document_of(index)
        content = document.resources[index]
        try:
            document.check(index)
            return _told(self._finding(index, content))
        except Refusal as refusal:
            return self._refuse(index, refusal.reason, f"{_type(content)}.{refusal.place}")
        except Exception as error:  # noqa: BLE001 - whatever one entry provokes, the next goes on
            return self._refuse(index, Reason.UNEXPECTED, type(error).__name__)

    def _refuse(self, index: int, reason: Reason, place: str) -> Entry:
        payload = self._document_of(index).original(index)
        self.refused.append(Refused(entry=index, reason=reason, place=place, payload=payload))
        return Entry(Fate.DEAD, reason)

    def _finding(self, index: int, content: Any) -> Finding:
        """Read one resource by its type."""
        if content is None and self._others.is_bundle:
            return OutOfScope("no resource")
        kind = content.get("resourceType") if isinstance(content, dict) else None
        match kind:
            case "Observation":
                return read_observation(content, self._scene(self._original(index), self._links))
            case "Patient":
                return self._person(content)
            case "Encounter":
                return people.read_encounter(content, self._links, self._terminology.places)
            case "Coverage":
                return self._coverage(content)
            case _:
                return self._other(kind)

    def _scene(self, original: Callable[[], bytes], links: Links) -> Scene:
        return Scene(
            terminology=self._terminology,
            links=links,
            received_at=self._message.received_at,
            original=original,
        )

    def _original(self, index: int) -> Callable[[], bytes]:
        return lambda: self._document_of(index).original(index)

    def _person(self, content: dict[str, Any]) -> Finding:
        codes, identifier = self._terminology.people, content.get("id")
        coverages = self._of_type("Coverage")
        payer = (
            people.payer_of(identifier, coverages, self._links, codes)
            if coverages and isinstance(identifier, str)
            else None
        )
        return people.read_patient(content, payer, codes, self._message.received_at)

    def _coverage(self, content: dict[str, Any]) -> Finding:
        """A Patient of the same message takes up what a Coverage says; else it counts alone."""
        for patient in self._of_type("Patient"):
            if self._takes_up(patient, content):
                return Noted(patient["id"])
        found = people.read_coverage(content, self._links, self._terminology.people)
        return found or OutOfScope("Coverage")

    def _takes_up(self, patient: dict[str, Any], coverage: dict[str, Any]) -> bool:
        identifier, codes = patient.get("id"), self._terminology.people
        if not isinstance(identifier, str):
            return False
        if not people.payer_of(identifier, [coverage], self._links, codes):
            return False
        try:
            self._person(patient)
        except Refusal:
            return False  # a patient that is refused has no event to stand in
        return True

    def _of_type(self, kind: str) -> list[dict[str, Any]]:
        return [
            resource
            for resource in self._others.resources
            if isinstance(resource, dict) and resource.get("resourceType") == kind
        ]

    def _other(self, kind: Any) -> OutOfScope:
        """Tell the type of a resource that is not read; a Bundle in a Bundle is refused."""
        known = isinstance(kind, str) and kind in self._terminology.resources
        if not known or kind == "Bundle":
            raise Refusal(Reason.FHIR_TYPE, "resourceType")
        return OutOfScope(kind)


def _told(finding: Finding) -> Entry:
    if isinstance(finding, OutOfScope):
        return Entry(_OUT_OF_SCOPE, finding.detail)
    skewed = isinstance(finding, Measured) and finding.skewed
    return Entry(_VITALS, CLOCK_SKEW if skewed else "", finding)


def read_tick(message: Message) -> int:
    """Read the time that a source tells: microseconds since the epoch.

    Raises:
        Refusal: what a document may be refused for, TIME_FORMAT or TIME_FUTURE.
    """
    content = Document(message.body).resources[0]
    told = content.get("time") if isinstance(content, dict) else None
    if not isinstance(told, str):
        raise Refusal(Reason.TIME_FORMAT, "time")
    return moments.not_after(moments.moment(told, "time"), message.received_at, "time")


def _type(content: Any) -> str:
    """Name the resource type where it is one of those that are read."""
    kind = content.get("resourceType") if isinstance(content, dict) else None
    return kind if kind in ("Observation", "Patient", "Encounter", "Coverage") else "resource"
