"""What is on record for `vigil policy what-if`, and what policies make of it, in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer

from services.cli.ledger import migrated
from services.cli.moment import moment
from services.core.errors import CommandError
from services.core.events import Decision, Disposition, Step
from services.core.faults import Fault
from services.core.policy import Policy, Tally, Told

if TYPE_CHECKING:
    from services.audit.writer import Store
    from services.cli.retrial import Line, Retrial, Seen
    from services.runtime.codec import Codec

LEAD_H: Final = 48
"""So much of the log before the time of the trial is read for what it says of patients."""
PAGE: Final = 20_000
_EARLIEST: Final = -(1 << 60)
_LATEST: Final = 1 << 60
_LEAD: Final = LEAD_H * 3_600_000_000
_OF_MODEL: Final = "role = 'shown' AND model_digest = {digest:String}"
_AT: Final = "toUnixTimestamp64Micro(as_of)"
_SCORED: Final = "disposition = 'scored'"
_JUDGED: Final = f"{_SCORED} AND {_AT} >= {{start:Int64}} AND {_AT} < {{end:Int64}}"
_SPANS: Final = (
    "SELECT vitals_topic_id, vitals_partition,"  # noqa: S608 - words of ours
    f" minIf(vitals_offset, {_SCORED} AND {_AT} >= {{lead:Int64}}) AS begin,"
    f" minIf(vitals_offset, {_JUDGED}) AS first,"
    f" maxIf(vitals_offset, ({_JUDGED}) OR {{end:Int64}} = {_LATEST}) AS last"
    f" FROM predictions WHERE {_OF_MODEL} GROUP BY vitals_topic_id, vitals_partition"
    f" HAVING countIf({_JUDGED}) > 0 ORDER BY vitals_topic_id, vitals_partition"
)
_LINES: Final = (
    "SELECT offset, ifNull(value, '') AS line FROM ledger WHERE topic = 'vitals.v1'"
    " AND topic_id = {ledger_id:String} AND partition = {vitals_partition:Int32}"
    " AND offset >= {low:Int64} AND offset <= {last:Int64} ORDER BY offset LIMIT {many:UInt32}"
)
_SEEN: Final = (
    "SELECT vitals_offset, disposition, encounter, score, unit,"  # noqa: S608 - words of ours
    f" {_AT} AS at FROM predictions WHERE {_OF_MODEL}"
    " AND vitals_topic_id = {vitals_topic_id:String}"
    " AND vitals_partition = {vitals_partition:Int32} AND vitals_offset >= {low:Int64}"
    f" AND vitals_offset <= {{high:Int64}} AND (NOT ({_SCORED}) OR ({_JUDGED}))"
)


def retried(
    digest: str, since: str, until: str, policies: Mapping[str, Policy]
) -> dict[str, Told]:
    """Let policies judge the scores of a model that were shown, in the order of the log.

    Args:
        digest: of its bundle.
        since: day or time with zone; empty: from the first.
        until: the same, not in it; empty: to the last.
        policies: by what they are called.

    Raises:
        CommandError: there is no score (CONFIGURATION), or as `migrated` does.
        Retry: no answer, or whoever asks may not read the ledger's values.
        Stop: a record has a schema that is not known here.
    """
    from services.audit.settings import AuditSettings
    from services.runtime.codec import Codec

    start, end = moment(since) if since else _EARLIEST, moment(until) if until else _LATEST
    if start >= end:
        raise typer.BadParameter("the time ends before it begins")
    store, codec = migrated(), Codec(AuditSettings().schemas)
    asked = {"digest": digest, "start": start, "end": end, "lead": max(start - _LEAD, _EARLIEST)}
    tallies = {whose: Tally() for whose in policies}
    for span in _rows(store.query(_SPANS, asked)):
        _retry(store, codec, asked | span, list(policies.values()), list(tallies.values()))
    told = {whose: tally.told() for whose, tally in tallies.items()}
    if not any(each.scores for each in told.values()):
        what = f"The ledger has no score of the model {digest[:12]} in that time."
        raise CommandError(what, "Name another time, or let it score first.", Fault.NO_SCORES)
    return told


def counts(told: Told) -> Iterator[tuple[str, float]]:
    """Name what a policy would have told and held."""
    yield "alerts raised", told.steps[Step.RAISED]
    yield "  severity broke silence", told.broke_silence
    yield "escalated", told.steps[Step.ESCALATED]
    yield "withdrawn", told.steps[Step.WITHDRAWN]
    yield "encounters with an alert", told.encounters
    yield "alerts per 100 patient-days", round(told.per_100_days, 1)
    yield "held by persistence", told.decisions[Decision.HELD_PERSISTENCE]
    yield "held by refractory time", told.decisions[Decision.HELD_REFRACTORY]
    yield "held after a transfer", told.decisions[Decision.HELD_TRANSFER]


def table(counted: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Show the counts of policies side by side."""
    yield f"{'':<28}" + "".join(f"{whose:>12}" for whose in counted)
    for name in next(iter(counted.values())):
        yield f"{name:<28}" + "".join(f"{of[name]:>12,}" for of in counted.values())


def _retry(
    store: "Store",
    codec: "Codec",
    span: dict[str, Any],
    policies: Sequence[Policy],
    tallies: Sequence[Tally],
) -> None:
    """Read one partition again, page by page."""
    from services.cli.retrial import Retrial

    retrial, low = Retrial(codec, policies, tallies), span["begin"]
    more = {"ledger_id": span["vitals_topic_id"].replace("-", ""), "many": PAGE}
    while lines := _lines(store, span | more | {"low": low}):
        _hear(store, retrial, span, lines)
        low = lines[-1].offset + 1


def _hear(store: "Store", retrial: "Retrial", span: dict[str, Any], lines: list["Line"]) -> None:
    low, high = max(lines[0].offset, span["first"]), lines[-1].offset
    seen = _seen(store, span | {"low": low, "high": high}) if low <= high else {}
    retrial.hear(lines, seen)


def _lines(store: "Store", asked: dict[str, Any]) -> list["Line"]:
    from services.cli.retrial import Line

    found = store.query(_LINES, asked, formats={"line": "bytes"})
    return [Line(*cells) for cells in zip(found["offset"], found["line"], strict=True)]


def _seen(store: "Store", asked: dict[str, Any]) -> dict[int, "Seen"]:
    from services.cli.retrial import Seen

    return {
        row["vitals_offset"]: Seen(
            Disposition[row["disposition"].upper()],
            row["encounter"],
            row["at"],
            row["unit"],
            float("nan") if row["score"] is None else row["score"],
        )
        for row in _rows(store.query(_SEEN, asked, formats={"encounter": "bytes"}))
    }


def _rows(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    names = list(columns)
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(names, cells, strict=True))
