"""What a verification found, as the store keeps it for boards and alerts."""

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from services.audit.writer import Store

_LAST: Final = (
    "SELECT toUnixTimestamp64Milli(maxIf(ended_at, findings = 0)) / 1000 AS good_at,"
    " argMax(findings, ended_at) AS found FROM verifications"
)


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """One verification; see infra/clickhouse/0004_verifications.sql."""

    seconds: float
    records: int
    chains: int
    sound: int
    findings: int
    heads: str
    version: str


class Last(NamedTuple):
    """What was found last.

    Attributes:
        good_at: when the last verification without a finding ended, s since 1970; 0 never.
        findings: of the last verification; 0 when there was none.
    """

    good_at: float
    findings: int


def heads_digest(chains: Iterable[tuple[str, str, int, int, str]]) -> str:
    """Give one digest of all chains, which two verifications of the same records share.

    Args:
        chains: topic, id of the topic, partition, records and head of each.
    """
    lines = sorted(" ".join(map(str, chain)) for chain in chains)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def note(store: Store, noted: Noted) -> None:
    """Write down what was found.

    Raises:
        Retry: it was not taken, as from a user who may only read.
        Stop: the store has no table for it.
    """
    row = msgspec.structs.asdict(noted)
    store.insert("verifications", {name: [value] for name, value in row.items()})


def last(store: Store) -> Last:
    """Ask for the last one; raises Retry when the store does not answer."""
    found = store.query(_LAST)
    return Last(float(found["good_at"][0]), int(found["found"][0]))
