"""Bugs that are planted in a life of the service, never in the product: each must be found."""

import ast
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from chaos.points import replace
from confluent_kafka import TopicPartition
from typing_extensions import override

from services.runtime import tables, worker
from services.runtime.kafka.group import GroupReader
from services.runtime.kafka.publisher import Publisher, TransactionalPublisher
from services.runtime.kafka.reader import stable_ends
from services.runtime.ports import Output, Record
from services.runtime.worker import Worker

POLICY = "services.core.policy"
SENT_S = 10.0
OPEN_S = 0.3
CHANGELOG = "scoring-changelog"


def commit_before_produce() -> None:
    """The group's offsets go ahead of the outputs."""
    read = GroupReader.read

    def committing(self: GroupReader, timeout_s: float) -> list[Record]:
        records = read(self, timeout_s)
        after = {(r.topic, r.partition): r.offset + 1 for r in records}
        if after:
            places = [TopicPartition(t, p, offset) for (t, p), offset in after.items()]
            self._consumer.commit(offsets=places, asynchronous=False)
        return records

    replace(GroupReader, "read", committing)


def commit_offsets_outside() -> None:
    """The transaction holds outputs and state; the offsets follow after it."""

    def commit(
        self: TransactionalPublisher,
        offsets: Mapping[tuple[str, int], int],
        reader: GroupReader,
        timeout_s: float,
    ) -> None:
        self._producer.commit_transaction(timeout_s)
        places = [TopicPartition(t, p, offset) for (t, p), offset in offsets.items()]
        reader._consumer.commit(offsets=places, asynchronous=False)

    replace(TransactionalPublisher, "commit", commit)


def changelog_outside() -> None:
    """The state is written by another producer, before the transaction ends."""
    write = TransactionalPublisher.write
    others: list[Publisher] = []
    init = TransactionalPublisher.__init__

    def begin(self: TransactionalPublisher, options: Any, **named: Any) -> None:
        init(self, options, **named)
        others.append(Publisher(options))

    def apart(self: TransactionalPublisher, outputs: Iterable[Output]) -> None:
        outputs = list(outputs)
        for row in (o for o in outputs if o.topic == CHANGELOG):
            others[0].send(row, lambda _: None)
        others[0].flush(SENT_S)
        write(self, [o for o in outputs if o.topic != CHANGELOG])

    replace(TransactionalPublisher, "__init__", begin)
    replace(TransactionalPublisher, "write", apart)


def revoke_by_abort() -> None:
    """A revocation aborts what is open, and the state in memory is kept for the next time."""

    def aborting(self: Worker, partitions: Sequence[tuple[str, int]]) -> None:
        if self.began is not None:
            self._publisher._producer.abort_transaction(SENT_S)
        self._offsets, self.began = {}, None
        self._held.difference_update(partitions)

    replace(Worker, "_revoked", aborting)
    # One is open at nearly every moment, so that none of few revocations finds nothing to abort.
    for name in ("IDLE_COMMIT_S", "SHORTEST_S", "LONGEST_S"):
        replace(worker, name, OPEN_S)


def restore_to_stable_offset() -> None:
    """The changelog is read to its last stable offset, not to its end."""
    replace(tables, "ends", stable_ends)


class _Sharper(ast.NodeTransformer):
    """Turns `score >= x` into `score > x`."""

    found = 0

    @override
    def visit_Compare(self, node: ast.Compare) -> ast.Compare:
        scored = isinstance(node.left, ast.Name) and node.left.id == "score"
        if scored and isinstance(node.ops[0], ast.GtE):
            node.ops[0] = ast.Gt()
            self.found += 1
        return node


class _Sharpened(SourceFileLoader):
    """Reads the policy's source as it is, and compiles another."""

    sharper = _Sharper()

    @override
    def get_code(self, fullname: str) -> CodeType:
        tree = self.sharper.visit(ast.parse(Path(self.path).read_text()))
        code: CodeType = compile(ast.fix_missing_locations(tree), self.path, "exec")
        return code


class _Finder:
    """Loads the modules of the policy by `_Sharpened`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, _: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name.startswith(POLICY) else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Sharpened(name, spec.origin)
        return spec


def above_for_at_least() -> None:
    """The policy asks for more than the threshold where it says at least."""
    assert POLICY not in sys.modules
    sys.meta_path.insert(0, _Finder())
    import_module(POLICY)
    assert _Sharpened.sharper.found, "the policy compares no score with `>=` any more"


BUGS: dict[str, Callable[[], None]] = {
    "commit-before-produce": commit_before_produce,
    "commit-offsets-outside": commit_offsets_outside,
    "changelog-outside": changelog_outside,
    "revoke-by-abort": revoke_by_abort,
    "restore-to-stable-offset": restore_to_stable_offset,
    "above-for-at-least": above_for_at_least,
}
