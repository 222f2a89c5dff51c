"""The door: what the store holds of a period."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from services.cli.moment import shown
from services.cli.report.material import Answers, Change, Material, Model, Sign, Work
from services.core.baseline import PRESENCE
from services.core.events import Measurement
from services.core.windows import Window
from services.monitoring.findings import Findings, Share, Store
from services.monitoring.past import Past

Row = TypeVar("Row")

EXPLAINED: Final = 24
"""Of so many variables and windows with drift the mix is looked up, each by a pass over vitals."""


def _in(column: str) -> str:
    return (
        f"{column} >= fromUnixTimestamp64Micro({{start:Int64}})"
        f" AND {column} < fromUnixTimestamp64Micro({{end:Int64}})"
    )


_JUDGED: Final = f"role = 'shown' AND {_in('measured_at')}"
_MODELS: Final = (
    "SELECT model_name AS name, model_version AS version, model_digest AS digest,"  # noqa: S608 - names of ours
    " policy_version AS policy, toString(role) AS role,"
    " toUnixTimestamp64Micro(min(measured_at)) AS first,"
    " toUnixTimestamp64Micro(max(measured_at)) AS last, count() AS scored FROM predictions"
    f" WHERE disposition = 'scored' AND {_in('measured_at')}"
    " GROUP BY name, version, digest, policy, role ORDER BY first, name, version, policy, role"
)
_WORK: Final = (
    "SELECT uniqExact(pseudonym) AS patients, countIf(disposition = 'scored') AS scored"  # noqa: S608 - as above
    f" FROM predictions WHERE {_JUDGED} AND disposition IN ('scored', 'abstained')"
)
_ABSTAINED: Final = (
    "SELECT toString(cause) AS name, count() AS n FROM predictions"  # noqa: S608 - as above
    f" WHERE {_JUDGED} AND disposition = 'abstained' GROUP BY name ORDER BY n DESC, name"
)
_REFUSED: Final = (
    "SELECT toString(reason) AS name, count() AS n FROM dead_letters"  # noqa: S608 - as above
    f" WHERE {_in('received_at')} GROUP BY name ORDER BY n DESC, name"
)
_ENTRIES: Final = (
    "SELECT countIf(fate != 'empty') AS entries FROM receipts"  # noqa: S608 - as above
    f" WHERE {_in('received_at')}"
)
_RAISED: Final = (
    "SELECT alert_id, any(pseudonym) AS patient, countIf(step = 'raised') AS raised,"  # noqa: S608 - as above
    " countIf(step = 'withdrawn') AS withdrawn, minIf(received_at, step = 'raised') AS at"
    f" FROM alerts GROUP BY alert_id HAVING raised > 0 AND {_in('at')}"
)
_ALERTS: Final = (
    "SELECT count() AS raised, uniqExact(patient) AS patients, countIf(withdrawn > 0) AS gone"  # noqa: S608 - as above
    f" FROM ({_RAISED})"
)
_FIRST: Final = (
    "SELECT alert_id, toString(argMin(verdict, (answered_at, offset))) AS said,"
    " toString(argMin(reason, (answered_at, offset))) AS because, min(answered_at) AS said_at"
    " FROM feedback GROUP BY alert_id"
)
_ANSWERS: Final = (
    "SELECT said, if(said = 'dismissed', because, '') AS why, count() AS n"  # noqa: S608 - as above
    f" FROM ({_RAISED}) AS r INNER JOIN ({_FIRST}) AS f ON r.alert_id = f.alert_id"
    " GROUP BY said, why ORDER BY said, n DESC, why"
)
_WAIT: Final = (
    "SELECT if(count() = 0, NULL, quantileExact(dateDiff('second', at, said_at))) AS median"  # noqa: S608 - as above
    f" FROM ({_RAISED}) AS r INNER JOIN ({_FIRST}) AS f ON r.alert_id = f.alert_id"
)
# Onset counts once, in its own hour; who was septic from the first hour on could not be led.
_LEADS: Final = (
    "SELECT if(lead_s > 0, intDiv(ifNull(lead_s, 0), 3600), -1) AS hours,"  # noqa: S608 - as above
    " uniqExact(pseudonym) AS n FROM labels_now"
    f" WHERE onset AND NOT from_start AND {_in('hour')} GROUP BY hours ORDER BY hours"
)
_STEPS: Final = (
    "SELECT signal_id, toString(argMin(kind, at)) AS kind,"
    " toString(argMin(metric, at)) AS metric, toString(argMin(feature, at)) AS feature,"
    " toString(argMin(cohort, at)) AS cohort,"
    " min(begin) AS opened, toString(argMax(word, at)) AS step,"
    " toString(argMax(severity, at)) AS severity,"
    " argMax(begin, at) AS start, argMax(until, at) AS end,"
    " argMaxIf(summary, at, word != 'closed') AS summary,"
    " argMaxIf(evidence_names, at, word != 'closed') AS names,"
    " argMaxIf(evidence_values, at, word != 'closed') AS said,"
    " toString(argMax(runbook, at)) AS runbook"
    " FROM (SELECT * EXCEPT (step, start, end), signals.step AS word,"
    " (signals.start, timestamp, offset) AS at,"
    " toUnixTimestamp64Micro(signals.start) AS begin,"
    " toUnixTimestamp64Micro(signals.end) AS until FROM signals"
    " WHERE signals.start < fromUnixTimestamp64Micro({end:Int64}))"
    " GROUP BY signal_id HAVING step != 'closed' OR end > {start:Int64}"
    " ORDER BY opened, signal_id"
)
_CHANGES: Final = (
    "SELECT toString(kind) AS kind, toString(subject) AS subject,"  # noqa: S608 - as above
    " toUnixTimestamp64Micro(made_at) AS made_at,"
    " toUnixTimestamp64Micro(effective_from) AS effective_from,"
    " requested_by, approved_by, reason, before, after FROM changes"
    f" WHERE {_in('changes.effective_from')} AND changes.kind != 'access'"
    " ORDER BY changes.effective_from, changes.made_at, change_id LIMIT 1 BY change_id"
)


def gather(store: Store, period: Window, whole: Sequence[Measurement]) -> Material:
    """Ask everything that a report tells.

    Args:
        store: with the tables and views of infra/clickhouse.
        period: µs.
        whole: the measurements of the period as one window, computed from its ledger.

    Raises:
        Retry: the store went away.
    """
    asked = period._asdict()

    def rows(statement: str) -> Iterator[dict[str, Any]]:
        return _rows(store.query(statement, asked))

    def counts(statement: str) -> dict[str, int]:
        return {row["name"]: row["n"] for row in rows(statement)}

    work = next(rows(_WORK)) | next(rows(_ENTRIES))
    return Material(
        period=period,
        models=[msgspec.convert(row, Model) for row in rows(_MODELS)],
        work=Work(**work, abstained=counts(_ABSTAINED), refused=counts(_REFUSED)),
        answers=_answers(next(rows(_ALERTS)), list(rows(_ANSWERS)), next(rows(_WAIT))),
        whole=sorted(whole, key=_order),
        daily=sorted(Past(store).stated(period), key=_order),
        leads={row["hours"]: row["n"] for row in rows(_LEADS)},
        signs=_explained(Findings(store), [_sign(row) for row in rows(_STEPS)]),
        changes=[msgspec.convert(row, Change) for row in rows(_CHANGES)],
    )


def _answers(
    alerts: Mapping[str, Any], told: Iterable[Mapping[str, Any]], wait: Mapping[str, Any]
) -> Answers:
    verdicts: dict[str, int] = {}
    reasons: dict[str, int] = {}
    for row in told:
        verdicts[row["said"]] = verdicts.get(row["said"], 0) + row["n"]
        if row["said"] == "dismissed":
            reasons[row["why"]] = row["n"]
    return Answers(
        raised=alerts["raised"],
        withdrawn=alerts["gone"],
        patients=alerts["patients"],
        verdicts=verdicts,
        reasons=reasons,
        wait_s=wait["median"],
    )


def _sign(row: dict[str, Any]) -> Sign:
    evidence = list(zip(row.pop("names"), row.pop("said"), strict=True))
    return Sign(**row, evidence=evidence)


def _explained(findings: Findings, signs: Sequence[Sign]) -> list[Sign]:
    """Look up what else was otherwise when a signal came; of drift also the mix."""
    mixes: dict[tuple[Window, str], list[Share]] = {}
    for sign in signs:
        key = (_opening(sign), sign.feature.removesuffix(PRESENCE))
        if sign.kind == "drift" and key not in mixes and len(mixes) < EXPLAINED:
            mixes[key] = findings.mix(*key)
    return [
        msgspec.structs.replace(
            sign,
            near=[
                f"{c.kind} {c.subject} from {shown(c.effective_from)}"
                for c in findings.changes(_opening(sign))
            ],
            mix=mixes.get((_opening(sign), sign.feature.removesuffix(PRESENCE))),
        )
        for sign in signs
    ]


def _opening(sign: Sign) -> Window:
    """Give the window that opened a signal; all of a family are of one length."""
    return Window(sign.opened, sign.opened + sign.end - sign.start)


def _rows(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


def _order(said: Measurement) -> tuple[Any, ...]:
    return (said.start, said.metric, said.cohort != "all", said.cohort, said.feature)
