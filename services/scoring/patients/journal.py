"""The changelog of the patients: whole rows now and then, and between them what happened.

Each transaction adds one leaf, which holds the messages themselves: what they do to a patient is a
function of the patient and of them, so they can be done again. A patient is written whole when the
leaf that holds their oldest message since the last whole row is about to be taken out of the ring;
its key is then free for another leaf. So compaction keeps one row per patient and one per key of
the ring, and a transaction costs one record where it would else cost one for each patient.

A row of a patient begins with the number of the last leaf that it includes, and a leaf says which
is the oldest in the ring; on a restore only later ones are done again.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from services.core.events import PSEUDONYM_BYTES
from services.core.features import FEATURES
from services.core.policy import PolicyState
from services.runtime.ports import Row
from services.scoring.patients.form import marked, unmarked
from services.scoring.patients.ward import Ward
from services.scoring.patients.wire import Wire

KEY: Final = b"leaf-"
KEYS: Final = 4096
"""Leaves of one partition; the key of one is its number modulo these."""
MESSAGES: Final = 16_384
"""So many messages are done again on a restore, at most, where there are few patients; about 7 MB
of a partition."""
PER_PATIENT: Final = 1
"""So many of each patient where there are many: with N patients charted in turn and a ring of less
than N messages, every message would let a row be written; so it is one in PER_PATIENT + 1. More of
them spare little and are done again on a restore."""
LEAF_BYTES: Final = 512 << 10
LARGEST: Final = 256 << 10
"""After a longer message its patient is written whole: no record may pass the topic's limit."""

NO_ROWS: Final = np.empty((0, len(FEATURES)), np.float32)


class Leaf(msgspec.Struct, array_like=True, frozen=True):
    """What happened in a transaction, or in a part of it.

    Attributes:
        number: counts from 1.
        steps: messages as they were consumed, and pseudonyms of patients who were forgotten.
        policies: what the policy remembers, in the end, of the patients of whom that changed.
        oldest: number of the oldest leaf in the ring; whole rows include all before it.
    """

    number: int
    steps: list[bytes]
    policies: dict[bytes, PolicyState]
    oldest: int = 0


class Journal:
    """Writes and restores the patients of one partition."""

    def __init__(self, ward: Ward, wire: Wire) -> None:
        self._ward, self._wire = ward, wire
        self._number = 0
        self._settled, self._read = True, dict[bytes, Leaf]()
        self._steps: list[tuple[bytes, bytes]] = []
        self._whole: set[bytes] = set()
        self._ring: deque[tuple[int, bytes]] = deque()
        self._messages = 0

    def load(self, key: bytes, row: bytes | None) -> None:
        """Take a row of the changelog, a leaf's or a patient's; `settle` before any use.

        Raises:
            Stop: it is of another form.
        """
        self._settled = False
        if not key.startswith(KEY):
            number = self._ward.load(key, row)
            self._number = max(self._number, number)
        elif row is None:
            self._read.pop(key, None)
        else:
            self._read[key] = msgspec.msgpack.decode(unmarked(row), type=Leaf)

    def settle(self) -> None:
        """Do again what no whole row includes; does nothing the second time."""
        if self._settled:
            return
        leaves, self._settled, self._read = self._read.values(), True, {}
        # A leaf that was taken out of the ring stays in the changelog until its key is used again.
        oldest = max((leaf.oldest for leaf in leaves), default=0)
        needed = (leaf for leaf in leaves if leaf.number >= oldest)
        for leaf in sorted(needed, key=lambda each: each.number):
            self._keep(leaf.number, [*self._again(leaf)])
        self._ward.changed()

    def happened(self, pseudonyms: Sequence[bytes], messages: Sequence[bytes]) -> None:
        """Note messages that were applied, and to whom; those of nobody changed nothing."""
        pairs = zip(pseudonyms, messages, strict=True)
        steps = [(name, message) for name, message in pairs if name]
        if max(map(len, messages), default=0) > LARGEST:
            self._whole.update(name for name, message in steps if len(message) > LARGEST)
            steps = [step for step in steps if len(step[1]) <= LARGEST]
        self._steps += steps

    def forgot(self, pseudonym: bytes) -> None:
        """Note that a patient was forgotten."""
        self._steps.append((pseudonym, pseudonym))

    def changes(self) -> Iterable[Row]:
        """Give the rows of what happened since the last call."""
        patients, changed = self._ward.patients, self._ward.changed()
        policies = dict(self._policies(changed))
        yield from ((name, None) for name in changed if name not in patients)
        if self._steps or policies:
            yield from self._leaves(policies)
        due = {name for name in self._whole if name in patients} | set(self._retired())
        self._whole = set()
        yield from self._ward.whole(sorted(due), self._number)

    def _policies(self, changed: Iterable[bytes]) -> Iterator[tuple[bytes, PolicyState]]:
        for name in changed:
            patient = self._ward.patients.get(name)
            # Mostly they are one object: to compare two of them takes longer than all the rest.
            if patient is None or patient.policy is patient.written:
                continue
            if patient.policy != patient.written:
                patient.written = patient.policy
                yield name, patient.policy

    def _leaves(self, policies: dict[bytes, PolicyState]) -> Iterator[Row]:
        steps, self._steps = self._steps, []
        for some, last in _parts(steps):
            self._number += 1
            known = policies if last else {}
            self._keep(self._number, [*(name for name, _ in some), *known])
            oldest, _ = self._ring[0]
            leaf = Leaf(self._number, [step for _, step in some], known, oldest)
            yield KEY + b"%d" % (self._number % KEYS), marked(msgspec.msgpack.encode(leaf))

    def _keep(self, number: int, names: list[bytes]) -> None:
        self._number = max(self._number, number)
        self._ring.append((number, b"".join(names)))
        self._messages += len(names)

    def _retired(self) -> Iterator[bytes]:
        """Take leaves out of the ring, and name whom no row includes that is as late as they."""
        most = max(MESSAGES, PER_PATIENT * len(self._ward.patients))
        while len(self._ring) >= KEYS or self._messages > most:
            number, names = self._ring.popleft()
            self._messages -= len(names) // PSEUDONYM_BYTES
            for place in self._ward.slots.behind(names, number):
                at = place * PSEUDONYM_BYTES
                yield names[at : at + PSEUDONYM_BYTES]

    def _again(self, leaf: Leaf) -> Iterator[bytes]:
        """Do a leaf again, and name its patients."""
        told: list[bytes] = []
        for step in leaf.steps:
            if len(step) != PSEUDONYM_BYTES:
                told.append(step)
                continue
            yield from self._told_again(told, leaf.number)
            told = []
            if self._is_behind(step, leaf.number):
                self._ward.forget(step)
        yield from self._told_again(told, leaf.number)
        for name, policy in leaf.policies.items():
            patient = self._ward.patients.get(name)
            if patient is not None and patient.history.stamp < leaf.number:
                patient.policy = patient.written = policy
            yield name

    def _told_again(self, told: list[bytes], number: int) -> list[bytes]:
        messages = self._wire.events(told)
        names = messages.names
        new = messages.only([self._is_behind(name, number) for name in names])
        self._ward.follow(new, NO_ROWS)
        return names

    def _is_behind(self, name: bytes, number: int) -> bool:
        patient = self._ward.patients.get(name)
        return patient is None or patient.history.stamp < number


def _parts(steps: list[tuple[bytes, bytes]]) -> Iterator[tuple[list[tuple[bytes, bytes]], bool]]:
    """Cut steps into parts of LEAF_BYTES at most, and say which is the last; one at least."""
    if sum([len(message) for _, message in steps]) <= LEAF_BYTES:
        yield steps, True
        return
    part, size = list[tuple[bytes, bytes]](), 0
    for step in steps:
        if size + len(step[1]) > LEAF_BYTES:
            yield part, False
            part, size = [], 0
        part.append(step)
        size += len(step[1])
    yield part, True
