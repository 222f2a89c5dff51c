"""Whom a reference means: an id at the source, or an entry of the same Bundle."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from string import ascii_letters, digits
from typing import Any, Final

from services.core.errors import Reason, Refusal

_LONGEST_ID: Final = 64
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_OF_IDS: Final = (ascii_letters + digits + ".-").encode()
_RELATIVE: Final = re.compile(
    r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]+)?"
)
_LONGEST: Final = 200
"""Characters of a reference that is remembered: nothing that is sent fills the memory."""
_DOTS: Final = frozenset({".", ".."})


def check_id(text: str, place: str) -> str:
    """Give an id back if it is one.

    Raises:
        Refusal: FHIR_ID; BAD_CHAR if a character cannot be seen.
    """
    if _ID.fullmatch(text) and text not in _DOTS:
        return text
    raise Refusal(Reason.FHIR_ID if text.isprintable() else Reason.BAD_CHAR, place)


def are_ids(texts: Sequence[str]) -> bool:
    """Whether each of some texts is an id, as `check_id` would say of one."""
    others = ",".join(texts).encode().translate(None, _OF_IDS)
    longest = max(map(len, texts), default=0)
    all_known = others == b"," * (len(texts) - 1)
    return all_known and all(texts) and longest <= _LONGEST_ID and _DOTS.isdisjoint(texts)


class Links:
    """Resolves references of one message."""

    def __init__(self, entries: Sequence[Any]) -> None:
        """Take the entries of the Bundle; of a single resource there are none."""
        self._entries = entries
        self._by_url: Mapping[str, tuple[str, str]] | None = None

    def patient(self, reference: str | None, place: str) -> str:
        """Give the id of the Patient that is meant.

        Raises:
            Refusal: SUBJECT: there is none, it is no Patient, is contained, or is on another
                server; BAD_CHAR if a character of the reference cannot be seen.
        """
        kind, identifier = self._resolved(reference or "")
        if kind == "Patient":
            return identifier
        seen = (reference or "").isprintable()
        raise Refusal(Reason.SUBJECT if seen else Reason.BAD_CHAR, place)

    def encounter(self, reference: str | None) -> str:
        """Give the id of the Encounter that is meant; empty if none can be told."""
        kind, identifier = self._resolved(reference) if reference else ("", "")
        return identifier if kind == "Encounter" else ""

    def _resolved(self, reference: str) -> tuple[str, str]:
        found = (_relative if len(reference) <= _LONGEST else _matched)(reference)
        if found:
            return found
        if self._by_url is None:
            self._by_url = dict(filter(None, (_address(entry) for entry in self._entries)))
        return self._by_url.get(reference, ("", ""))


def _matched(reference: str) -> tuple[str, str] | None:
    """Take a relative reference apart: type and id; of one that climbs, nothing; None: another."""
    found = _RELATIVE.fullmatch(reference)
    if not found:
        return None
    return ("", "") if found[2] in _DOTS else (found[1], found[2])


def is_relative(reference: str) -> bool:
    """Whether a reference names a type and an id, and so no entry by its full URL."""
    return _matched(reference) is not None


_relative: Final = lru_cache(4096)(_matched)  # a ward writes about the same patients all day


@lru_cache(4096)
def patient_and_encounter(subject: str, encounter: str) -> tuple[str, str] | None:
    """Give both ids as Links of a message without entries would; None where a patient is refused.

    They must be short: they are remembered.
    """
    whose = _matched(subject)
    where = _matched(encounter) or ("", "")
    if whose is None or whose[0] != "Patient":
        return None
    return whose[1], where[1] if where[0] == "Encounter" else ""


def _address(entry: Any) -> tuple[str, tuple[str, str]] | None:
    """Give an entry's full URL and its resource's type and id, if it has all three."""
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(resource, dict):
        return None
    url, kind, identifier = entry.get("fullUrl"), resource.get("resourceType"), resource.get("id")
    if not (isinstance(url, str) and isinstance(kind, str) and isinstance(identifier, str)):
        return None
    return (url, (kind, identifier)) if _ID.fullmatch(identifier) else None
