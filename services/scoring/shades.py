"""What a policy remembers of patients for a model that is not shown: its own, apart from theirs.

A shadow's scores go through its policy as a champion's do, so that its decisions can be held
beside those that were shown. Nothing of it is in a patient's row: the champion's state is the same
to the byte whether a shadow runs or not.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from services.core.policy import FRESH, PolicyState
from services.runtime.ports import Row
from services.scoring.course import Course
from services.scoring.patients.form import marked, unmarked

KEY: Final = b"shadow-"
"""How the keys of such rows begin; behind it digest, first offset and pseudonym."""
AT_ONCE: Final = 2_000
"""So many rows of a shadow that was withdrawn are deleted in one transaction."""
_DIGEST, _OFFSET, _NAME = 32, 8, 16
LENGTH: Final = len(KEY) + _DIGEST + _OFFSET + _NAME
"""Of a key; pseudonyms and other keys are shorter."""

Term = tuple[str, int]
"""A shadow's time: the digest of its model, and the offset from which on it has been one."""


class Held:
    """What the policy remembers of one patient, and what of that the changelog knows."""

    __slots__ = ("policy", "written")

    def __init__(self, policy: PolicyState = FRESH) -> None:
        self.policy = self.written = policy


class _OnDemand(dict[bytes, Held]):
    def __missing__(self, pseudonym: bytes) -> Held:
        held = self[pseudonym] = Held()
        return held


class Shade:
    """The memory of one shadow.

    `patients` holds those of whom there is something to remember; whoever is asked for is in it
    until the next `changes`.
    """

    def __init__(self) -> None:
        self.patients: dict[bytes, Held] = _OnDemand()
        self._touched: dict[bytes, None] = {}

    def load(self, pseudonym: bytes, policy: PolicyState) -> None:
        """Take what the changelog knows."""
        self.patients[pseudonym] = Held(_shared(policy))

    def touched(self, pseudonym: bytes) -> None:
        """Note that what is remembered of a patient may change."""
        self._touched[pseudonym] = None

    def is_quiet(self, pseudonym: bytes) -> bool:
        """Tell whether nothing is remembered that a low score could change."""
        held = self.patients.get(pseudonym)
        return held is None or (held.policy.alert is None and held.policy.streak == 0)

    def forget(self, known: Collection[bytes]) -> None:
        """Forget patients who are not known any more, but for an alert that has not ended."""
        gone = [p for p, of in self.patients.items() if p not in known and of.policy.alert is None]
        for pseudonym in gone:
            self.patients[pseudonym].policy = FRESH
            self._touched[pseudonym] = None

    def changes(self) -> Iterator[tuple[bytes, PolicyState | None]]:
        """Give what changed since the last call; None where nothing is remembered any more."""
        touched, self._touched = self._touched, {}
        for pseudonym in touched:
            held = self.patients[pseudonym]
            if held.policy != held.written:
                held.policy = held.written = _shared(held.policy)
                yield pseudonym, None if held.policy == FRESH else held.policy
            if held.policy == FRESH:
                del self.patients[pseudonym]


class Shades:
    """The memories of all shadows of a partition, each as long as its model is one."""

    def __init__(self) -> None:
        self._of: dict[Term, Shade] = {}
        self._gone: dict[bytes, None] = {}

    def load(self, key: bytes, row: bytes | None) -> None:
        """Take a row of the changelog; raises Stop where it is of another form."""
        term, pseudonym = _read(key)
        if row is not None:
            policy = msgspec.msgpack.decode(unmarked(row), type=PolicyState)
            self._of.setdefault(term, Shade()).load(pseudonym, policy)

    def present(self, course: Course, offset: int, digests: Iterable[str]) -> dict[str, Shade]:
        """Give the memory of each shadow that scores from an offset on; end all others.

        Args:
            course: says since when.
            offset: of the partition.
            digests: of the models.
        """
        terms = {digest: course.shadow_since(digest, offset) for digest in digests}
        self._keep(terms)
        return {each: self._of.setdefault((each, since), Shade()) for each, since in terms.items()}

    def settle(self, course: Course) -> None:
        """Of what was loaded, end what is of shadows that were withdrawn."""
        last = course.latest
        digests = [] if last is None else [seat.digest for seat in last.line_up.unseen()]
        self._keep({each: course.shadow_since(each, last.first) for each in digests if last})

    def _keep(self, terms: Mapping[str, int]) -> None:
        for term in self._of.keys() - terms.items():
            self._gone |= dict.fromkeys(_key(term, name) for name in self._of.pop(term).patients)

    def forget(self, known: Collection[bytes]) -> None:
        """Forget whom scoring has forgotten."""
        for shade in self._of.values():
            shade.forget(known)

    def changes(self) -> Iterator[Row]:
        """Give the rows that changed, and delete some of those that are of no use any more."""
        for term, shade in self._of.items():
            for pseudonym, policy in shade.changes():
                row = None if policy is None else marked(msgspec.msgpack.encode(policy))
                yield _key(term, pseudonym), row
        for key in list(self._gone)[:AT_ONCE]:
            del self._gone[key]
            yield key, None

    def dump(self) -> list[tuple[bytes, bytes]]:
        """Give all that is remembered; a restart changes no byte of it."""
        return sorted(
            (_key(term, name), msgspec.msgpack.encode(held.policy))
            for term, shade in self._of.items()
            for name, held in shade.patients.items()
            if held.policy != FRESH
        )


def is_of_a_shadow(key: bytes) -> bool:
    """Tell whether a row of the changelog is one of these."""
    return len(key) == LENGTH and key.startswith(KEY)


def _key(term: Term, pseudonym: bytes) -> bytes:
    digest, since = term
    return KEY + bytes.fromhex(digest) + since.to_bytes(_OFFSET, "big") + pseudonym


def _read(key: bytes) -> tuple[Term, bytes]:
    digest, rest = key[len(KEY) : len(KEY) + _DIGEST], key[len(KEY) + _DIGEST :]
    return (digest.hex(), int.from_bytes(rest[:_OFFSET], "big")), rest[_OFFSET:]


def _shared(policy: PolicyState) -> PolicyState:
    """Give the same; of most patients only the unit is remembered, and that is kept once."""
    in_unit = _in_unit(policy.unit)
    return in_unit if policy == in_unit else policy


@lru_cache(maxsize=4096)
def _in_unit(unit: str) -> PolicyState:
    return PolicyState(unit=unit)
