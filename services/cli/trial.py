"""Scores on record for `vigil policy what-if`, and what policies make of them, in words."""

from collections.abc import Iterator
from typing import Final

import typer

from services.cli.ledger import migrated
from services.cli.moment import moment
from services.core.cohorts import UNKNOWN
from services.core.errors import CommandError
from services.core.events import Decision
from services.core.faults import Fault
from services.core.policy import Scored, Told

_EARLIEST: Final = -(1 << 60)
_LATEST: Final = 1 << 60
_SCORES: Final = (
    "SELECT encounter, toUnixTimestamp64Micro(as_of) AS at, unit, score FROM predictions"
    " WHERE disposition = 'scored' AND role = 'shown' AND model_digest = {digest:String}"
    " AND at >= {start:Int64} AND at < {end:Int64}"
    " ORDER BY vitals_partition, vitals_offset"
)
_FORMATS: Final = {"encounter": "bytes"}


def counts(told: Told) -> Iterator[tuple[str, float]]:
    """Name what a policy would have told and held."""
    yield "alerts raised", told.decisions[Decision.RAISED]
    yield "  severity broke silence", told.broke_silence
    yield "escalated", told.decisions[Decision.ESCALATED]
    yield "encounters with an alert", told.encounters
    yield "alerts per 100 patient-days", round(told.per_100_days, 1)
    yield "held by persistence", told.decisions[Decision.HELD_PERSISTENCE]
    yield "held by refractory time", told.decisions[Decision.HELD_REFRACTORY]
    yield "held after a transfer", told.decisions[Decision.HELD_TRANSFER]


def table(counted: dict[str, dict[str, float]]) -> Iterator[str]:
    """Show the counts of policies side by side."""
    yield f"{'':<28}" + "".join(f"{whose:>12}" for whose in counted)
    for name in next(iter(counted.values())):
        yield f"{name:<28}" + "".join(f"{of[name]:>12,}" for of in counted.values())


def scores_of(digest: str, since: str, until: str) -> list[Scored]:
    """Read the scores of a model that were shown, in the order of their record.

    Args:
        digest: of its bundle.
        since: day or time with zone; empty: from the first.
        until: the same, not in it; empty: to the last.

    Raises:
        CommandError: there is none (CONFIGURATION), or as `migrated` does.
    """
    start, end = moment(since) if since else _EARLIEST, moment(until) if until else _LATEST
    if start >= end:
        raise typer.BadParameter("the time ends before it begins")
    named = {"digest": digest, "start": start, "end": end}
    rows = migrated().query(_SCORES, named, formats=_FORMATS)
    if not rows["score"]:
        what = f"The ledger has no score of the model {digest[:12]} in that time."
        raise CommandError(what, "Name another time, or let it score first.", Fault.NO_SCORES)
    columns = (rows[name] for name in ("encounter", "at", "unit", "score"))
    return [
        Scored(encounter, at, "" if unit == UNKNOWN else unit, score)
        for encounter, at, unit, score in zip(*columns, strict=True)
    ]
