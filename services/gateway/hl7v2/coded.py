"""Names, codes, numbers and times of HL7 v2, in FHIR's words."""

import hashlib
import re
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
LOCAL: Final = "urn:hl7v2:"
LONGEST_ID: Final = 64
_PLAIN: Final = re.compile(r"[A-Za-z0-9]")
_TIME: Final = re.compile(
    r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(?:(\d\d)(\.\d{1,4})?)?)?([+-]\d{4})?",
    re.ASCII,
)
_NUMBER: Final = re.compile(r"([+-]?)0*(\d*)(?:\.(\d*))?", re.ASCII)
_DIGITS: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)", re.ASCII)
LONGEST_NUMBER: Final = 64

# HL7 table 0396, of coding systems; the rest are names of the site's own.
SYSTEMS: Final = {
    "LN": LOINC,
    "UCUM": UCUM,
    "CDCREC": "urn:oid:2.16.840.1.113883.6.238",
    "HL70005": "urn:oid:2.16.840.1.113883.6.238",
    "HL70189": "urn:oid:2.16.840.1.113883.6.238",
    "SCT": "http://snomed.info/sct",
}


@lru_cache(maxsize=4096)  # a ward writes about the same patients all day
def identifier(name: str, authority: str = "") -> str:
    """Make a FHIR id of an identifier and who gave it; no two give the same.

    >>> identifier("4711", "WEST"), identifier("A_1")
    ('WEST.4711', 'A-5f1')
    """
    joined = f"{_escaped(authority)}.{_escaped(name)}" if authority else _escaped(name)
    return joined if len(joined) <= LONGEST_ID else hashlib.sha256(joined.encode()).hexdigest()


def _escaped(text: str) -> str:
    return "".join(c if _PLAIN.fullmatch(c) else f"-{c.encode().hex()}" for c in text)


def system_of(name: str, default: str) -> str:
    """Give the address of a coding system by its name in HL7 v2."""
    if not name:
        return default
    return SYSTEMS.get(name.upper()) or LOCAL + re.sub(r"[^a-z0-9.-]", "-", name.lower())[:64]


@lru_cache(maxsize=4096)
def date_time(text: str, default_offset: str, zone: ZoneInfo | None) -> str:
    """Write a time in FHIR's way: a date where it is one, without an offset where none is known.

    Args:
        text: as in a TS or DTM field.
        default_offset: what MSH-7 has, such as `+0100`; may be empty.
        zone: of the source, where a time has neither; None where that is not known. An hour that
            comes twice when clocks are set back stays without.

    >>> date_time("20260101085500", "+0100", None), date_time("20260101", "", None)
    ('2026-01-01T08:55:00+01:00', '2026-01-01')
    """
    found = _TIME.fullmatch(text)
    if not found:
        return "?" if text else ""
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    if hour is None:
        return f"{year}-{month}-{day}"
    local = f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}{fraction or ''}"
    given = offset or default_offset
    return local + (f"{given[:3]}:{given[3:]}" if given else _offset(local, zone))


def _offset(local: str, zone: ZoneInfo | None) -> str:
    if zone is None:
        return ""
    try:
        there = datetime.fromisoformat(local[:19]).replace(tzinfo=zone)
    except ValueError:
        return ""
    if there.utcoffset() != there.replace(fold=1).utcoffset():
        return ""
    return there.isoformat()[19:]


def offset_of(text: str) -> str:
    """Give the offset that a time has, or nothing."""
    found = _TIME.fullmatch(text)
    return (found[8] or "") if found else ""


def number(text: str) -> str | None:
    """Write a number as JSON has it, digit by digit; None if it is none.

    >>> number("+007.50"), number(".5"), number("1e3")
    ('7.50', '0.5', None)
    """
    if len(text) > LONGEST_NUMBER or not _DIGITS.fullmatch(text):
        return None
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, whole, fraction = found.groups()
    return ("-" if sign == "-" else "") + (whole or "0") + (f".{fraction}" if fraction else "")


def codings(parts: list[str]) -> list[dict[str, Any]]:
    """Give the code and the alternate code of a CE or CWE, each with its system."""
    found = []
    for start in (0, 3):
        code, _, system = [part.strip() for part in (*parts[start : start + 3], "", "", "")[:3]]
        if code:
            found.append({"system": system_of(system, LOCAL + "unnamed"), "code": code})
    return found
