"""Marks that canaries carry, and how each looks in every encoding that is searched."""

import base64
from collections.abc import Iterator, Mapping
from typing import NamedTuple

ENCODINGS = ("plain", "base64", "hex", "url", "json", "utf-16")


class Mark(NamedTuple):
    """What every canary of a kind has in it, whatever else makes it unique."""

    letters: str
    digits: str
    day: str


REAL = Mark("Qzxvkjwybmfh", "40718293564", "1931-04-05")
"""Of traffic: to be found nowhere."""
PLANTED = Mark("Wqjxzkvgpbnd", "59382716043", "1927-08-09")
"""Of what the test lays down itself: to be found everywhere."""


def needles(mark: Mark) -> Mapping[str, frozenset[bytes]]:
    """Give the byte strings to search for, by the encoding they stand in."""
    forms = (
        *(mark.letters, mark.letters.lower(), mark.letters.upper()),
        *(mark.digits, mark.day, mark.day.replace("-", "")),
    )
    found: dict[str, set[bytes]] = {name: set() for name in ENCODINGS}
    for form in forms:
        for name, written in encoded(form):
            found[name].add(written)
    return {name: frozenset(written) for name, written in found.items()}


def encoded(text: str) -> Iterator[tuple[str, bytes]]:
    """Write a text in every encoding; of base64 the part that its neighbors do not change."""
    raw = text.encode()
    yield "plain", raw
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw)
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        yield "base64", whole[first:last]
    for digits in (raw.hex(), raw.hex().upper()):
        pairs = [digits[at : at + 2] for at in range(0, len(digits), 2)]
        yield "hex", digits.encode()
        yield "url", "".join(f"%{pair}" for pair in pairs).encode()
        yield "json", "".join(f"\\u00{pair}" for pair in pairs).encode()
    for order in ("le", "be"):
        yield "utf-16", text.encode(f"utf-16-{order}")
