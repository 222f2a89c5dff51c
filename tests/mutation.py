"""Damages messages: at random bytes, at random elements, and by what parsers stumble over."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import builders

EXAMPLES: Final = builders.REPO.parent / "shared" / "data" / "fhir"
LONGEST: Final = 20_000
"""Bytes of an example that is damaged: a longer one says nothing new and takes long."""
TOKENS: Final = (
    *(b"NaN", b"-Infinity", b"1e400", b"1e-999", b"9" * 5000, b"-0", b"0.1e-400", b"007", b"1e"),
    *(b"null", b"true", b"[]", b"{}", b"[[", b"}}", b'"', b"\\", b",", b":", b"/*", b"'"),
    *(b"\\ud800", b"\\u0000", b"\x00", b"\xff", b"\xc0\xaf", b"\xef\xbb\xbf", b"\xed\xa0\xbd"),
    *("\u202e".encode(), "\u200b".encode(), b"\x1b[31m", b"\r\n", b"[" * 5000, b'{"":' * 500),
    *(b'"id":"x",', b'"status":"final",', b'"resourceType":"Bundle",', b'"entry":[{}],'),
)
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1e-300, 1e17, 10**17, 0.5, "", "x", "final", "entered-in-error"),
    *("2026-01-05", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-05T08:00:60Z"),
    *("Patient/p", "Patient/..", "#p", "urn:uuid:0", "8867-4", "8310-5", "1", "%", "Cel", "<"),
    *([], {}, [None], [[]], {"coding": [{}]}, {"reference": {}}, {"value": "80"}, {"a": {"b": 1}}),
    *("a" * 65, "\ud83d\ude00", "\x00", [1, "a", None], {"value": 1, "code": []}),
)
KINDS: Final = ("Observation", "Patient", "Encounter", "Coverage", "Bundle", "Device", "Heart", "")


def corpus() -> list[bytes]:
    """Small synthetic resources, and the collected examples where they are."""
    found = [
        *(builders.observation(), builders.blood_pressure(120, 80), builders.patient()),
        *(builders.encounter(), builders.bundle(builders.observation(), builders.patient())),
    ]
    bodies = [builders.body(resource) for resource in found]
    if EXAMPLES.exists():
        bodies += [_compact(path) for path in sorted(EXAMPLES.glob("*/*.json"))]
    return [body for body in bodies if len(body) <= LONGEST]


def _compact(path: Path) -> bytes:
    return json.dumps(json.loads(path.read_bytes()), separators=(",", ":")).encode()


def mutants(bodies: Sequence[bytes], rng: random.Random) -> Iterator[bytes]:
    """Give damaged messages without end."""
    while True:
        body = rng.choice(bodies)
        for _ in range(rng.randint(1, 4)):
            body = rng.choice(WAYS)(body, rng)
        yield body


def _cut(body: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(body))
    return body[:at] + body[at + rng.randint(1, 40) :]


def _flip(body: bytes, rng: random.Random) -> bytes:
    changed = bytearray(body or b"{")
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(body: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(body))
    return body[:at] + rng.choice(TOKENS) + body[at:]


def _repeat(body: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(body))
    part = body[at : at + rng.randint(1, 200)]
    return body[:at] + part + body[at:]


def _replace_number(body: bytes, rng: random.Random) -> bytes:
    at = body.find(b'"value":', rng.randint(0, max(len(body) - 1, 0)))
    if at < 0:
        return _insert(body, rng)
    return body[: at + 8] + rng.choice(TOKENS) + body[body.find(b",", at) :]


def _change_element(body: bytes, rng: random.Random) -> bytes:
    """Put another value, another kind or nothing in the place of an element."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return _flip(body, rng)
    places = list(_places(content, 0))
    if not places:
        return _insert(body, rng)
    holder, key = rng.choice(places)
    match rng.randrange(4):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder["resourceType"] = rng.choice(KINDS)
        case 2 if isinstance(holder, list):
            holder.append(holder[key])
        case _:
            holder[key] = rng.choice(VALUES)
    return json.dumps(content).encode(errors="replace")


def _places(content: Any, depth: int) -> Iterator[tuple[Any, Any]]:
    if depth > 30:
        return
    keys: Any = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key], depth + 1)


WAYS: Final[tuple[Callable[[bytes, random.Random], bytes], ...]] = (
    *(_cut, _flip, _insert, _repeat, _replace_number),
    *(_change_element, _change_element, _change_element),
)
